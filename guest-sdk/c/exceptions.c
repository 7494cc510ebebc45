/*
 * What a module needs that is built with `exuvia-cc -fwasm-exceptions`, where the compiler's own libraries lack it: the tags, and what the compiler calls for
 * setjmp and longjmp. All of it is weak: a libc that has them goes first.
 *
 * The compiler turns setjmp into __wasm_setjmp, which notes where in the function it is, and each call that may come back by longjmp into a try. longjmp throws;
 * __wasm_setjmp_test says whether what was caught is for this call of the function, and for which of its setjmps. (LLVM, WebAssemblyLowerEmscriptenEHSjLj.)
 */
#include <setjmp.h>
#include <stdint.h>

__asm__(".weak __cpp_exception\n.tagtype __cpp_exception i32\n__cpp_exception:\n"
        ".weak __c_longjmp\n.tagtype __c_longjmp i32\n__c_longjmp:\n");

/** What longjmp throws, in the form that the compiler reads. */
struct thrown {
    void *point;
    int value;
};

/** What is in a jmp_buf. */
struct point {
    /** Which call of the function: an address in its frame. */
    void *call;
    /** Which setjmp in it; never 0. */
    uint32_t label;
    struct thrown thrown;
};
_Static_assert(sizeof(struct point) <= sizeof(jmp_buf), "a jmp_buf is large enough");

__attribute__((weak)) void __wasm_setjmp(struct point *point, uint32_t label, void *call) {
    point->call = call;
    point->label = label;
}

__attribute__((weak)) uint32_t __wasm_setjmp_test(const struct point *point, const void *call) {
    return point->call == call ? point->label : 0;
}

__attribute__((weak)) _Noreturn void __wasm_longjmp(struct point *point, int value) {
    /* setjmp never returns 0 twice. */
    point->thrown = (struct thrown){point, value ? value : 1};
    __builtin_wasm_throw(1, &point->thrown);
}
