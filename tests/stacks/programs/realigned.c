/* A frame that is aligned to 64 bytes and has room of unknown size: its address needs an expression. */
#include <alloca.h>
#include "spin.h"

NOINLINE static void leaf(char *room, char *aligned) { room[0] = aligned[0] = 1; spin(50); STAY; }
NOINLINE static void realigned(int size) {
    char aligned[64] __attribute__((aligned(64)));
    char *room = alloca(size);
    leaf(room, aligned);
    STAY;
}
NOINLINE static void outer(int size) { realigned(size); STAY; }
int main(int count, char **arguments) {
    (void)arguments;
    for (int i = 0; i < 20; i++) outer(100 + 37 * i + count);
    return 0;
}
