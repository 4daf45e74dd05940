// A Go program that knows where its CPU time goes: 50 % crunch (arithmetic), 30 % churn (maps and
// garbage), 20 % weave (strings and interfaces).
//
// Two goroutines, each locked to a thread so that the thread's CPU clock is the goroutine's, take
// long turns; a third one waits and wakes. The garbage collector's own workers run on other threads:
// they count in the process' total but in no turn. Usage: split TRUTH.json CPU_SECONDS
package main

import (
	"encoding/json"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

func threadNanoseconds() uint64 {
	var t syscall.Timespec
	// 3 is CLOCK_THREAD_CPUTIME_ID.
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, 3, uintptr(unsafe.Pointer(&t)), 0); errno != 0 {
		panic(errno)
	}
	return uint64(t.Nano())
}

//go:noinline
func crunch(seed, until uint64) uint64 {
	for {
		for i := 0; i < 400000; i++ {
			seed = stir(seed)
		}
		if threadNanoseconds() >= until {
			return seed
		}
	}
}

// Small enough that the compiler inlines it: profiles show it as an inlined frame of crunch.
func stir(x uint64) uint64 {
	x ^= x >> 33 // inline:begin
	x *= 0xff51afd7ed558ccd
	x ^= x >> 29
	return x + 1 // inline:end
}

//go:noinline
func churn(seed, until uint64) uint64 {
	for {
		table := map[uint64][]byte{}
		for i := uint64(0); i < 2000; i++ {
			key := seed*6364136223846793005 + i
			table[key%1024] = make([]byte, 16+key%64)
			seed = key
		}
		seed += uint64(len(table))
		if threadNanoseconds() >= until {
			return seed
		}
	}
}

type speaker interface{ speak(uint64) string }
type number struct{}
type word struct{}

//go:noinline
func (number) speak(x uint64) string { return strconv.FormatUint(x, 10) }

//go:noinline
func (word) speak(x uint64) string { return strings.Repeat("w", int(x%40)) }

//go:noinline
func weave(seed, until uint64) uint64 {
	speakers := []speaker{number{}, word{}}
	for {
		for i := uint64(0); i < 2000; i++ {
			seed = seed*31 + uint64(len(speakers[seed%2].speak(seed))) + i
		}
		if threadNanoseconds() >= until {
			return seed
		}
	}
}

var spent [3]atomic.Uint64
var sink atomic.Uint64

//go:noinline
func runTurns(until uint64) {
	runtime.LockOSThread()
	seed, now := uint64(42), threadNanoseconds()
	for now < until {
		for i, turn := range []struct {
			work func(uint64, uint64) uint64
			ms   uint64
		}{{crunch, 500}, {churn, 300}, {weave, 200}} {
			seed = turn.work(seed, now+turn.ms*1000000)
			after := threadNanoseconds()
			spent[i].Add(after - now)
			now = after
		}
	}
	sink.Add(seed)
}

func main() {
	seconds, err := strconv.ParseFloat(os.Args[2], 64)
	if err != nil {
		panic(err)
	}
	var waiting sync.WaitGroup
	for range 2 {
		waiting.Add(1)
		go func() {
			defer waiting.Done()
			runTurns(uint64(seconds * 1e9 / 2))
		}()
	}
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(50 * time.Millisecond):
			}
		}
	}()
	waiting.Wait()
	close(done)
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	truth, err := json.Marshal(map[string]any{
		"cpu_ns":    usage.Utime.Nano() + usage.Stime.Nano(),
		"functions": map[string]uint64{"crunch": spent[0].Load(), "churn": spent[1].Load(), "weave": spent[2].Load()},
	})
	if err != nil {
		panic(err)
	}
	if err := os.WriteFile(os.Args[1], truth, 0o644); err != nil {
		panic(err)
	}
}
