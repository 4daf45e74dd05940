// C called from Go uses the frame pointer for a pointer to a secret, which lies where a return address would.
package main

/*
static volatile struct { void *next; unsigned long secret[2]; } box;
static void keep(unsigned long secret, long turns) {
	box.secret[0] = box.secret[1] = secret;
	__asm__ volatile("push %%rbp; mov %0, %%rbp; 1: dec %1; jnz 1b; pop %%rbp" : "+r"(box.next), "+r"(turns)
			 :: "memory");
}
static void turn(unsigned long secret, long turns) {
	box.next = (void *)&box;
	keep(secret, turns);
}
*/
import "C"

func main() {
	for i := 0; i < 40; i++ {
		C.turn(0x2172657473697773, 20000000)
	}
}
