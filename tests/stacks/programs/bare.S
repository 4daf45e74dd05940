/* A leaf without rules that has put a zero on the stack. */
    .globl bare
    .type bare, @function
bare:
    pushq $0
1:  decq %rdi
    jnz 1b
    addq $8, %rsp
    ret
    .size bare, . - bare
    .section .note.GNU-stack, "", @progbits
