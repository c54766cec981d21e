# A guest that keeps a history: one boot sector that writes block after block to its own disk, so that whoever reads the disk
# later can tell whether two copies of the guest ever ran.
#
#   sector 0       this code; the machine's number stands at byte 506
#   sector 1 ...   one block each: "ARCH" machine run counter nonce nonce-of-the-block-before   (six words of 32 bits)
#
#      start --> fill 32 MiB, find the end of the history (run = last run + 1) --+
#                                                                                v
#        +--> is the last block still ours, and the next one empty? --no--> print "!" and stop for ever
#        |        | yes
#        |        v
#        |    write the next block, print W<run>:<counter>, touch 512 KiB of memory, wait two BIOS ticks (110 ms)
#        +--------+
#
# The nonce is the processor's clock, so two copies that go on from the same memory write different ones, and one of them finds
# a block that it has not written. The memory that was filled makes it take a while to be sent, longer the less may be sent a
# second, and what is touched lets it end: half a mebibyte changes ten times a second.
#
# Build: as --32 -o writer.o writer.S && ld -m elf_i386 -Ttext 0x7c00 --oformat binary -e start -o writer.img writer.o
    .code16
    .intel_syntax noprefix
    .globl start

    .set COM1, 0x3f8
    .set TICKS, 0x046c
    .set BLOCK, 0x8000              # What is read or written.
    .set PACKET, 0x7e00             # How the BIOS is asked for it.
    .set SLOT, 0x7e20               # The next sector.
    .set RUN, 0x7e24
    .set COUNTER, 0x7e28
    .set NONCE, 0x7e2c              # Of the last block.
    .set MAGIC, 0x48435241          # "ARCH"

    .text
start:
    cli
    xor ax, ax
    mov ds, ax
    mov es, ax
    mov ss, ax
    mov sp, 0x7c00
    cld                             # Beyond the first mebibyte a segment with another limit reaches ("unreal mode").
    lgdt [table]
    mov eax, cr0
    or al, 1
    mov cr0, eax
    mov bx, 8
    mov fs, bx
    and al, 0xfe
    mov cr0, eax
    mov edi, 0x100000
1:  mov fs:[edi], edi
    add edi, 0x1000
    cmp edi, 0x2100000
    jb 1b
    sti

    xor ax, ax
    mov di, PACKET                  # Everything from here to COUNTER starts as zero.
    mov cx, 64
    rep stosb
    mov byte ptr [PACKET], 16
    mov byte ptr [PACKET + 2], 1
    mov word ptr [PACKET + 4], BLOCK
    mov dword ptr [SLOT], 1

find:
    call read
    cmp dword ptr [BLOCK], MAGIC
    jne found
    mov eax, [BLOCK + 8]
    mov [RUN], eax
    mov eax, [BLOCK + 16]
    mov [NONCE], eax
    inc dword ptr [SLOT]
    jmp find
found:
    inc dword ptr [RUN]

next:
    cmp dword ptr [SLOT], 1
    je 1f
    dec dword ptr [SLOT]
    call read
    inc dword ptr [SLOT]
    mov eax, [BLOCK + 16]
    cmp eax, [NONCE]
    jne forked
1:  call read
    cmp dword ptr [BLOCK], MAGIC
    je forked

    mov di, BLOCK
    mov eax, MAGIC
    stosd
    mov eax, [number]
    stosd
    mov eax, [RUN]
    stosd
    mov eax, [COUNTER]
    stosd
    rdtsc
    or eax, 1
    mov ebx, eax
    stosd
    mov eax, [NONCE]
    stosd
    mov [NONCE], ebx
    mov ah, 0x43
    call disk
    mov al, 'W'
    call put
    mov bx, [RUN]
    call hex
    mov al, ':'
    call put
    mov bx, [COUNTER]
    call hex
    mov al, 10
    call put
    inc dword ptr [SLOT]
    inc dword ptr [COUNTER]

    mov bx, 0x1000                  # One word of each page from 0x10000 to 0x8ffff.
1:  mov fs, bx
    inc word ptr fs:[0]
    add bx, 0x100
    cmp bx, 0x9000
    jb 1b

    mov cx, 2
2:  mov si, [TICKS]
3:  hlt
    cmp si, [TICKS]
    je 3b
    loop 2b
    jmp next

forked:
    mov al, '!'
    call put
    cli
1:  hlt
    jmp 1b

read:
    mov ah, 0x42
disk:                               # A failed call is made again: the disk may be slow to come, and nothing may be skipped.
    mov ebx, [SLOT]
    mov [PACKET + 8], ebx
    mov si, PACKET
    mov dl, 0x80
    push ax
    int 0x13
    pop ax
    jc disk
    ret

hex:                                # bx as four digits.
    mov cl, 12
1:  mov ax, bx
    shr ax, cl
    and al, 15
    cmp al, 10
    jb 2f
    add al, 'A' - '0' - 10
2:  add al, '0'
    call put
    sub cl, 4
    jns 1b
    ret

put:                                # The character in al to the first serial port.
    mov ah, al
    mov dx, COM1 + 5
1:  in al, dx
    test al, 0x20
    jz 1b
    mov al, ah
    mov dx, COM1
    out dx, al
    ret

table:                              # The first entry is never used, so it holds the table's own description.
    .word 15
    .long table
    .word 0
    .word 0xffff, 0x0000, 0x9200, 0x00cf

    .org 506
number:
    .long 0
    .word 0xaa55
