/* Recursion to the depth of the argument, with frames of about ROOM bytes. */
#include <stdlib.h>
#include "spin.h"

NOINLINE static int descend(int depth) {
    volatile char room[ROOM];
    room[0] = 1;
    if (depth == 0) spin(1000);
    else room[1] = (char)descend(depth - 1);
    return room[0] + room[1];
}
int main(int count, char **arguments) {
    return descend(count > 1 ? atoi(arguments[1]) : 5) == 77;
}
