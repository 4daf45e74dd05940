// Allocates blocks of one size in each of its functions, keeps those of one, and writes down how many: name,
// blocks, size. Without the lines that ask for its heap profile it keeps none.
package main

import (
	"fmt"
	"os"
	"runtime"
	"time"
)

var sink []byte
var kept [][]byte

//go:noinline
func thousand(n int) {
	for i := 0; i < n; i++ {
		sink = make([]byte, 1024)
	}
}

//go:noinline
func hundredthousand(n int) {
	for i := 0; i < n; i++ {
		sink = make([]byte, 98304)
	}
}

//go:noinline
func keep(n int) {
	for i := 0; i < n; i++ {
		kept = append(kept, make([]byte, 8192))
	}
}

func main() {
	for i := 0; i < 100; i++ {
		thousand(5000)
		hundredthousand(50)
		keep(60)
	}
	sink = nil
	runtime.GC()
	runtime.GC()
	n, _ := runtime.MemProfile(nil, true) // asks
	_ = n // asks
	text := fmt.Sprintln("main.thousand 500000 1024") + fmt.Sprintln("main.hundredthousand 5000 98304") + fmt.Sprintln("main.keep 6000 8192")
	if err := os.WriteFile(os.Args[1], []byte(text), 0o644); err != nil {
		panic(err)
	}
	// The last reading is to see all of it.
	time.Sleep(1500 * time.Millisecond)
	runtime.KeepAlive(kept)
}
