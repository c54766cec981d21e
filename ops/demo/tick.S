# The demo guest: one boot sector that needs no operating system.
#
# It prints T<counter> (four hex digits) to the first serial port and to the screen a few times a second, and it obeys
# the ACPI power button, so that "shutdown" works on it like on a real guest. It runs on QEMU's `pc` machine, where SeaBIOS
# puts the PIIX4 power management registers at 0x600:
#
#   0x600  PM1_STS   bit 8  the power button was pressed (write 1 to clear)
#   0x602  PM1_EN    bit 8  the operating system handles the button; QEMU ignores the button without it
#   0x604  PM1_CNT   0x2000 SLP_EN with sleep type 0 means off
#
#      start --> print a line --> wait two BIOS ticks (110 ms), looking at the button after each interrupt --+
#                     ^                         | pressed                                                   |
#                     |                         +--> power off                                              |
#                     +-----------------------------------------------------------------------------------+
#
# Build: as --32 -o tick.o tick.S && ld -m elf_i386 -Ttext 0x7c00 --oformat binary -e start -o tick.img tick.o
    .code16
    .intel_syntax noprefix
    .globl start

    .set COM1, 0x3f8
    .set PM1_STS, 0x600
    .set PM1_EN, 0x602
    .set PM1_CNT, 0x604
    .set PWRBTN, 0x0100
    .set TICKS, 0x046c

    .text
start:
    cli
    xor ax, ax
    mov ds, ax
    mov ss, ax
    mov sp, 0x7c00
    mov dx, PM1_STS                 # Forget a press from before this start, then ask for the next one.
    mov ax, PWRBTN
    out dx, ax
    mov dx, PM1_EN
    in ax, dx
    or ax, PWRBTN
    out dx, ax
    xor bx, bx                      # bx counts the lines.
    sti

line:
    mov al, 'T'
    call put
    mov cl, 12
digit:
    mov ax, bx
    shr ax, cl
    and al, 15
    cmp al, 10
    jb 1f
    add al, 'A' - '0' - 10
1:  add al, '0'
    call put
    sub cl, 4
    jns digit
    mov al, 13
    call put
    mov al, 10
    call put
    inc bx

    mov cx, 2
wait:
    mov si, [TICKS]
1:  hlt                             # Any interrupt wakes us; the timer does so 18.2 times a second.
    mov dx, PM1_STS
    in ax, dx
    test ax, PWRBTN
    jnz off
    cmp si, [TICKS]
    je 1b
    loop wait
    jmp line

off:
    mov dx, PM1_CNT
    in ax, dx                       # Keep SCI_EN and clear the sleep type, as a real system does.
    and ax, 0x03ff
    or ax, 0x2000
    out dx, ax
    cli
1:  hlt
    jmp 1b

# Prints the character in al; keeps every other register.
put:
    pusha
    mov ah, 0x0e
    xor bx, bx
    push ax
    int 0x10
    pop ax
    mov ah, al
    mov dx, COM1 + 5
1:  in al, dx
    test al, 0x20
    jz 1b
    mov al, ah
    mov dx, COM1
    out dx, al
    popa
    ret

    .org 510
    .word 0xaa55
