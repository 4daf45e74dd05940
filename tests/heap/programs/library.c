// Loaded by safe.c.
#include <stdlib.h>
int allocate(void) {
    for (int i = 0; i < 1000; i++) {
        void *volatile block = malloc(5000);
        free(block);
    }
    return 3;
}
