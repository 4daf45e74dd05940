import java.util.concurrent.locks.LockSupport;

/** Threads that wait in several ways. Waits SECONDS. */
public class Waits {
    interface Wait { void run(int tenths) throws Exception; }

    static final Object LOCK = new Object();

    static void sleeper(int tenths) throws Exception {
        for (int i = 0; i < tenths; i++) Thread.sleep(100);
    }

    static void waiter(int tenths) throws Exception {
        synchronized (LOCK) {
            for (int i = 0; i < tenths; i++) LOCK.wait(100);
        }
    }

    static void parker(int tenths) {
        for (int i = 0; i < tenths; i++) LockSupport.parkNanos(100_000_000L);
    }

    static void reader(int tenths) throws Exception {
        Process process = new ProcessBuilder("sleep", String.valueOf(tenths / 10)).start();
        process.getInputStream().read();
    }

    static Thread start(Wait wait, int tenths) {
        Thread thread = new Thread(() -> {
            try {
                wait.run(tenths);
            } catch (Exception failure) {
                failure.printStackTrace();
            }
        });
        thread.start();
        return thread;
    }

    public static void main(String[] args) throws Exception {
        int tenths = 10 * Integer.parseInt(args[0]);
        Thread[] threads = {
            start(Waits::sleeper, tenths), start(Waits::waiter, tenths),
            start(Waits::parker, tenths), start(Waits::reader, tenths),
        };
        for (Thread thread : threads) thread.join();
    }
}
