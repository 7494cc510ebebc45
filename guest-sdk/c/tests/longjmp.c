/* setjmp and longjmp: a request that goes wrong deep below is refused at the top. */
#include <exuvia.h>
#include <setjmp.h>

static int64_t count;
static jmp_buf top;

__attribute__((noinline)) static void deep(int depth, int64_t by) {
    if (depth) deep(depth - 1, by);
    else if (by < 0) longjmp(top, 42);
    else count += by;
}

static void add(exuvia_message *m) {
    int64_t by = exuvia_get_int(m, "by");
    if (!exuvia_ok(m)) return;
    int why = setjmp(top);
    if (why) exuvia_refuse(m, "longjmp brought %d", why);
    else {
        deep(20, by);
        exuvia_reply_int(m, count);
    }
}

static const exuvia_entry requests[] = {{"Add", add}, {0}};

EXUVIA_ACTOR(.schema = 1, .requests = requests)
