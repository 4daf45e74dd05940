// An allocator of its own: every block comes from the kernel, with its length before it.
#include <string.h>
#include <sys/mman.h>
static const size_t head = 4096;
void *malloc(size_t size) {
    if (size > (size_t)1 << 40) return 0;
    char *start = mmap(0, size + head, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) return 0;
    *(size_t *)start = size + head;
    return start + head;
}
void free(void *block) {
    if (block) munmap((char *)block - head, *(size_t *)((char *)block - head));
}
void *calloc(size_t count, size_t size) { return malloc(count * size); }
void *realloc(void *block, size_t size) {
    void *new = malloc(size);
    if (new && block) {
        size_t old = *(size_t *)((char *)block - head) - head;
        memcpy(new, block, old < size ? old : size);
        free(block);
    }
    return new;
}
