/* on_stack(top, function): calls a function on another stack, with the rules that such code has. */
    .globl on_stack
    .type on_stack, @function
on_stack:
    .cfi_startproc
    pushq %rbp
    .cfi_def_cfa_offset 16
    .cfi_offset %rbp, -16
    movq %rsp, %rbp
    .cfi_def_cfa_register %rbp
    movq %rdi, %rsp
    callq *%rsi
    movq %rbp, %rsp
    popq %rbp
    .cfi_def_cfa %rsp, 8
    ret
    .cfi_endproc
    .size on_stack, . - on_stack
    .section .note.GNU-stack, "", @progbits
