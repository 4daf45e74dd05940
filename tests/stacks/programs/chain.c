/* main calls middle calls leaf; how it is compiled is what matters. */
#include "spin.h"

NOINLINE void leaf(int ms) { spin(ms); STAY; }
NOINLINE void middle(int ms) { leaf(ms); STAY; }
int main(void) { middle(1000); STAY; return 0; }
