// C called from Go, Go called back from C, Go alone.
package main

/*
#include <time.h>
static volatile unsigned long spun;
__attribute__((noinline)) static void c_spin(int ms) {
	struct timespec now;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	double end = now.tv_sec + now.tv_nsec / 1e9 + ms / 1e3;
	do {
		for (int i = 0; i < 50000; i++) spun += i;
		clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
	} while (now.tv_sec + now.tv_nsec / 1e9 < end);
}
// Leaves the frame pointer alone, unlike c_spin.
__attribute__((noinline)) static void c_turn(long turns) {
	for (long i = 0; i < turns; i++) __asm__ volatile("" : "+r"(i));
}
__attribute__((noinline)) static void c_turns(long turns) { c_turn(turns); __asm__(""); }
__attribute__((noinline)) static void c_middle(int ms) { c_spin(ms); __asm__(""); }
extern void goCallback(int ms);
__attribute__((noinline)) static void c_back(int ms) { goCallback(ms); __asm__(""); }
*/
import "C"

var sum uint64

//go:noinline
func spin(turns int) {
	for i := uint64(0); i < uint64(turns)*1000000; i++ {
		sum += i ^ sum
	}
}

//export goCallback
func goCallback(ms C.int) { spin(int(ms)) }

//go:noinline
func callsC() { C.c_middle(400) }

//go:noinline
func turns() { C.c_turns(50000000) }

//go:noinline
func callsBack() { C.c_back(400) }

func main() {
	callsC()
	for i := 0; i < 20; i++ {
		turns()
	}
	callsBack()
	spin(400)
}
