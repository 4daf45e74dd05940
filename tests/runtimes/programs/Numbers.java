import java.io.PrintWriter;
import java.lang.invoke.MethodHandle;
import java.lang.invoke.MethodHandles;
import java.lang.invoke.MethodType;
import java.lang.reflect.Method;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Instant;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.function.LongUnaryOperator;

/**
 * Runs functions by number for some tenths of a millisecond each, through recursion, lambdas, interfaces,
 * callbacks from the library, method handles and reflection, and writes down when it ran which: what a
 * profiler shows for an instant must be the calls of the number at that instant. It leaves garbage behind.
 *
 * Numbers SECONDS LOG THREADS platform|virtual: so many seconds of each thread. What is between the lines
 * with brackets is there once for each number.
 */
public class Numbers {
    static final int NUMBERS = 48;
    static final ThreadLocal<long[]> HERE = ThreadLocal.withInitial(() -> new long[1]);

    interface Call { long run(long end) throws Throwable; }

    //[
    static long work_@N@(long end) {
        long total = 0;
        HERE.get()[0] = System.nanoTime();
        while (System.nanoTime() < end) {
            for (int i = 0; i < 200; i++) total += (total ^ i) * @N@;
        }
        return total;
    }
    static long inner_@N@(int depth, long end) {
        if (depth > 0) return inner_@N@(depth - 1, end) + 1;
        return work_@N@(end);
    }
    static long direct_@N@(long end) { return inner_@N@(@N@ % 5, end); }
    static long key_@N@(long end) { return inner_@N@(@N@ % 2, end); }
    static long lambda_@N@(long end) {
        LongUnaryOperator operator = it -> key_@N@(it) + 1;
        return operator.applyAsLong(end);
    }
    static class Shape_@N@ implements Call {
        public long run(long end) { return inner_@N@(@N@ % 3, end); }
    }
    static long order_@N@(long end) {
        Long[] two = {end, 0L};
        Arrays.sort(two, (a, b) -> { key_@N@(end); return 0; });
        return two[0];
    }
    //]

    static Call call(int number) throws Exception {
        MethodHandles.Lookup lookup = MethodHandles.lookup();
        MethodType type = MethodType.methodType(long.class, long.class);
        switch (number % 6) {
            case 0: case 1: case 3: {
                String name = number % 6 == 0 ? "direct_" : number % 6 == 1 ? "lambda_" : "order_";
                MethodHandle handle = lookup.findStatic(Numbers.class, name + number, type);
                return end -> (long) handle.invokeExact(end);
            }
            case 2:
                return (Call) Class.forName("Numbers$Shape_" + number).getDeclaredConstructor().newInstance();
            case 4: {
                MethodHandle handle = lookup.findStatic(Numbers.class, "key_" + number, type);
                return end -> (long) handle.invokeExact(end);
            }
            default: {
                Method method = Numbers.class.getDeclaredMethod("direct_" + number, long.class);
                return end -> (Long) method.invoke(null, end);
            }
        }
    }

    static long tid() throws Exception {
        return Long.parseLong(Files.readSymbolicLink(Path.of("/proc/thread-self")).getFileName().toString());
    }

    static void serve(double seconds, Call[] calls, List<long[]> log, int seed, boolean isVirtual) {
        try {
            Random pick = new Random(seed);
            long own = tid();
            long left = (long) (seconds * 1e9);
            byte[][] garbage = new byte[64][];
            for (int turn = 0; left > 0; turn++) {
                if (isVirtual) {
                    Thread.yield();
                    own = tid();
                }
                garbage[turn % 64] = new byte[16 << 10];
                int number = pick.nextInt(NUMBERS);
                long start = System.nanoTime();
                long end = start + 100_000 + pick.nextInt(300_000);
                calls[number].run(end);
                log.add(new long[] {HERE.get()[0], end, number, own});
                left -= end - start;
            }
        } catch (Throwable failure) {
            failure.printStackTrace();
            System.exit(1);
        }
    }

    /** From the monotonic clock to the time of the day, where nothing interrupted between the two. */
    static long offset() {
        long least = Long.MAX_VALUE, found = 0;
        for (int i = 0; i < 1000; i++) {
            long before = System.nanoTime();
            Instant now = Instant.now();
            long after = System.nanoTime();
            if (after - before < least) {
                least = after - before;
                found = now.getEpochSecond() * 1_000_000_000L + now.getNano() - (before + after) / 2;
            }
        }
        return found;
    }

    static Thread start(Runnable run, boolean isVirtual) throws Exception {
        if (isVirtual) {
            // Not there before 21.
            return (Thread) Thread.class.getMethod("startVirtualThread", Runnable.class).invoke(null, run);
        }
        Thread thread = new Thread(run);
        thread.start();
        return thread;
    }

    public static void main(String[] args) throws Exception {
        double seconds = Double.parseDouble(args[0]);
        boolean isVirtual = args[3].equals("virtual");
        Call[] calls = new Call[NUMBERS];
        for (int number = 0; number < NUMBERS; number++) calls[number] = call(number);
        List<List<long[]>> logs = new ArrayList<>();
        List<Thread> threads = new ArrayList<>();
        for (int n = 0; n <= Integer.parseInt(args[2]); n++) {
            List<long[]> log = new ArrayList<>();
            int seed = n;
            logs.add(log);
            threads.add(start(() -> serve(seconds, calls, log, seed, isVirtual), isVirtual));
        }
        for (Thread thread : threads) thread.join();
        try (PrintWriter out = new PrintWriter(args[1])) {
            out.println(offset());
            for (List<long[]> log : logs) {
                for (long[] it : log) out.println(it[0] + " " + it[1] + " " + it[2] + " " + it[3]);
            }
        }
    }
}
