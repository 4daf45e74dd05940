import java.io.IOException;
import java.lang.management.ManagementFactory;

/**
 * A service in Java; Pyroscope's agent is put beside it: java -javaagent:agent.jar Work.java.
 *
 * <p>Works in rounds of known names until its standard input closes; then prints "ended" and the CPU
 * seconds of the process.
 */
final class Work {
    private static volatile boolean ended;
    private static volatile long sink;

    private Work() {}

    private static long burn(int rounds) {
        long x = 88172645463325252L;
        for (int round = 0; round < rounds; round++) {
            x ^= x << 13;
            x ^= x >>> 7;
            x ^= x << 17;
        }
        return x;
    }

    private static long burnTwice(int rounds) {
        return burn(2 * rounds);
    }

    private static long burnOnce(int rounds) {
        return burn(rounds);
    }

    private static void untilInputCloses() {
        try {
            while (System.in.read() >= 0) {}
        } catch (IOException closed) {
            // As good as its end.
        }
        ended = true;
    }

    public static void main(String[] arguments) throws InterruptedException {
        Thread input = new Thread(Work::untilInputCloses);
        input.setDaemon(true);
        input.start();
        while (!ended) {
            sink += burnTwice(1_000_000) + burnOnce(1_000_000);
            Thread.sleep(10); // the machine has other work, too
        }
        var system = (com.sun.management.OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean();
        System.out.println("ended " + system.getProcessCpuTime() / 1e9);
    }
}
