// C++ of many shapes for ever: exceptions through several frames, virtual calls, closures, containers.
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#define NOINLINE __attribute__((noinline))
static volatile unsigned long sum;

struct Shape {
    virtual ~Shape() = default;
    virtual double area(int depth) const = 0;
};
struct Round : Shape {
    NOINLINE double area(int depth) const override {
        for (int i = 0; i < 200; i++) sum += i * depth;
        return depth ? area(depth - 1) : 3.14;
    }
};
struct Holder {
    std::string text = "some text that is longer than the small string";
    ~Holder() { sum += text.size(); }
};
NOINLINE static void throws(int depth) {
    Holder holder;
    if (depth == 0) throw std::runtime_error("thrown");
    throws(depth - 1);
    sum++;
}
NOINLINE static void catches(int depth) {
    try {
        throws(depth);
    } catch (const std::exception &error) {
        sum += std::string(error.what()).size();
    }
}
NOINLINE static void contains() {
    std::map<std::string, std::vector<int>> map;
    for (int i = 0; i < 50; i++) map[std::to_string(i * 7919)].push_back(i);
    std::vector<int> numbers(500);
    std::generate(numbers.begin(), numbers.end(), [n = 17]() mutable { return n = n * 31 % 1009; });
    std::sort(numbers.begin(), numbers.end(), std::greater<int>());
    std::ostringstream out;
    for (auto &entry : map) out << entry.first << entry.second[0] << 1.5;
    sum += out.str().size() + numbers[3];
}

int main() {
    std::unique_ptr<Shape> shape = std::make_unique<Round>();
    std::function<void(int)> closure = [&](int depth) { sum += shape->area(depth); };
    for (int turn = 0;; turn++) {
        closure(turn % 20);
        catches(turn % 15);
        contains();
    }
}
