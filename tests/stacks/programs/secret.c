/* A secret in registers, arguments and on the stack, at places where return addresses would be looked for. */
#include "spin.h"

#define SECRET 0x2172657473697773UL /* "swister!" */
NOINLINE static void leaf(unsigned long a, unsigned long b, unsigned long c) {
    volatile unsigned long room[16];
    for (int i = 0; i < 16; i++) room[i] = SECRET;
    register unsigned long frame __asm__("rbx") = SECRET;
    __asm__ volatile("" : "+r"(frame), "+r"(a), "+r"(b), "+r"(c));
    spin(50);
    __asm__ volatile("" : "+r"(frame), "+r"(a), "+r"(b), "+r"(c));
    room[0] = frame;
}
NOINLINE static void middle(void) {
    volatile unsigned long room[64];
    for (int i = 0; i < 64; i++) room[i] = SECRET;
    leaf(SECRET, SECRET, room[0]);
    STAY;
}
int main(int count, char **arguments) {
    (void)arguments;
    /* With an argument for a long time. */
    for (int i = 0; i < (count > 1 ? 400 : 20); i++) middle();
    return 0;
}
