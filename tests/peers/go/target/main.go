// A service as people run them: net/http/pprof on a loopback port, and work whose shape is known.
//
//	target [-push http://127.0.0.1:4040 -name SERVICE -for 3s -everything]
//
// Prints the address it listens on, then works until its standard input closes. With -push it also
// sends CPU and allocation profiles with Pyroscope's Go SDK (-everything: all that it has but leaks),
// a window every second; after -for it flushes and prints "pushed" and the CPU seconds of the process,
// by getrusage.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	_ "net/http/pprof"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/grafana/pyroscope-go"
)

var (
	sink  uint64
	kept  []byte
	mutex sync.Mutex
)

// burnTwice gets twice the CPU time of burnOnce.
//
//go:noinline
func burnTwice(rounds int) uint64 { return burn(2 * rounds) }

//go:noinline
func burnOnce(rounds int) uint64 { return burn(rounds) }

//go:noinline
func burn(rounds int) uint64 {
	x := uint64(88172645463325252)
	for range rounds {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	return x
}

//go:noinline
func allocateMebibyte() { kept = make([]byte, 1<<20) }

//go:noinline
func holdMutex() {
	mutex.Lock()
	time.Sleep(2 * time.Millisecond)
	mutex.Unlock()
}

//go:noinline
func waitOnChannel(ticks <-chan time.Time) { <-ticks }

func work(stop <-chan struct{}) {
	for range 2 {
		go func() {
			for {
				holdMutex()
				time.Sleep(3 * time.Millisecond)
			}
		}()
	}
	go func() {
		ticks := time.Tick(5 * time.Millisecond)
		for {
			waitOnChannel(ticks)
		}
	}()
	route := func(name string, serve func(int) uint64) {
		pyroscope.TagWrapper(context.Background(), pyroscope.Labels("route", name), func(context.Context) {
			sink += serve(1_000_000)
		})
	}
	for {
		select {
		case <-stop:
			return
		default:
		}
		route("/twice", burnTwice)
		route("/once", burnOnce)
		allocateMebibyte()
		time.Sleep(10 * time.Millisecond) // the machine has other work, too
	}
}

func cpuSeconds() float64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		log.Fatal(err)
	}
	return float64(used.Utime.Nano()+used.Stime.Nano()) / 1e9
}

func main() {
	push := flag.String("push", "", "where to push with Pyroscope's SDK")
	name := flag.String("name", "target", "the service's name, for -push")
	lasting := flag.Duration("for", 3*time.Second, "how long to push")
	everything := flag.Bool("everything", false, "push all profiles, not only CPU and allocations")
	flag.Parse()
	runtime.SetMutexProfileFraction(1)
	runtime.SetBlockProfileRate(1)
	runtime.MemProfileRate = 64 << 10

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	go func() { log.Fatal(http.Serve(listener, nil)) }()
	fmt.Println(listener.Addr())

	stop := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	if *push != "" {
		types := []pyroscope.ProfileType{pyroscope.ProfileCPU, pyroscope.ProfileAllocSpace}
		if *everything {
			types = []pyroscope.ProfileType{
				pyroscope.ProfileCPU,
				pyroscope.ProfileAllocObjects,
				pyroscope.ProfileAllocSpace,
				pyroscope.ProfileInuseObjects,
				pyroscope.ProfileInuseSpace,
				pyroscope.ProfileGoroutines,
				pyroscope.ProfileMutexCount,
				pyroscope.ProfileMutexDuration,
				pyroscope.ProfileBlockCount,
				pyroscope.ProfileBlockDuration,
			}
		}
		go func() {
			profiler, err := pyroscope.Start(pyroscope.Config{
				ApplicationName: *name,
				ServerAddress:   *push,
				UploadRate:      time.Second,
				Tags:            map[string]string{"zone": "north"},
				ProfileTypes:    types,
			})
			if err != nil {
				log.Fatal(err)
			}
			time.Sleep(*lasting)
			profiler.Flush(true)
			profiler.Stop()
			fmt.Println("pushed", cpuSeconds())
		}()
	}
	work(stop)
}
