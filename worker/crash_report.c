/* SPDX-License-Identifier: Apache-2.0
 *
 * One stopped process into a text.  There is no debugger and no symbol here: addresses are
 * given as MODULE+OFFSET, which addr2line turns into lines where the programs are.
 *
 * Frame pointers are followed first.  Code without them (most libraries) breaks the chain, so
 * what lies beyond is searched for words that are return addresses: they point into code, behind a
 * call.  Such a word may be left over from an earlier call; it is marked with '?'. */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/limits.h"
#include "worker/crash.h"

enum {
	FRAMES_MAX = 64,
	GAP_FRAMES = 8, /* guesses below the first frame */
	MAPS_MAX = 512, /* with code in them */
	MAPS_TEXT = 1024 * 1024,
	SCAN_BYTES = 64 * 1024, /* of the stack */
	SCAN_PIECE = 4096,
	FRAME_BYTES = 16 * 1024 * 1024, /* a larger one is a wrong pointer */
	COMMAND_MAX = 4096,
};

struct map {
	uint64_t start, end;
	uint64_t base; /* what offsets are counted from: 0 for programs at a fixed place */
	const char *path;
	int path_len;
};

struct registers {
	uint64_t pc, sp, fp;
	uint64_t link; /* aarch64: where a function without a frame returns to */
};

struct victim {
	pid_t pid, tid;
	struct buf *out;
	struct buf maps_text;
	struct map maps[MAPS_MAX];
	size_t n_maps;
	int frames;
};

/* --- reading the victim --- */

static bool peek(const struct victim *v, uint64_t at, void *to, size_t n)
{
	struct iovec here = { to, n }, there = { (void *)(uintptr_t)at, n };

	return process_vm_readv(v->tid, &here, 1, &there, 1, 0) == (ssize_t)n;
}

/* As much of the file as b takes. */
static void read_text(pid_t pid, const char *name, struct buf *b)
{
	char path[64], piece[4096];
	auto_close int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	while (fd >= 0 && (n = read(fd, piece, sizeof(piece))) > 0)
		if (buf_put(b, piece, (size_t)n, NULL) < 0)
			return;
}

/* Is the program at base one that is always loaded at the same place? */
static bool is_fixed(const struct victim *v, uint64_t base)
{
	uint16_t type;

	return peek(v, base + offsetof(Elf64_Ehdr, e_type), &type, sizeof(type)) && type == ET_EXEC;
}

static void parse_maps(struct victim *v)
{
	const char *last = "", *line = buf_cstr(&v->maps_text, NULL);
	uint64_t base = 0;
	int last_len = 0;

	for (const char *end; line && (end = strchr(line, '\n')); line = end + 1) {
		unsigned long long from, to;
		char perms[5] = "";
		int at = 0, len;

		if (sscanf(line, "%llx-%llx %4s %*x %*s %*u %n", &from, &to, perms, &at) < 3 || !at)
			continue;
		len = (int)(end - line) - at;
		if (len < 0)
			len = 0;
		/* All mappings of one file share their path, which is how they are told. */
		if (len != last_len || memcmp(line + at, last, (size_t)len) != 0) {
			base = from;
			last = line + at;
			last_len = len;
		}
		if (perms[2] == 'x' && v->n_maps < MAPS_MAX)
			v->maps[v->n_maps++] =
				(struct map){ from, to, is_fixed(v, base) ? 0 : base, last, len };
	}
}

static const struct map *map_of(const struct victim *v, uint64_t address)
{
	for (size_t i = 0; i < v->n_maps; i++)
		if (address >= v->maps[i].start && address < v->maps[i].end)
			return &v->maps[i];
	return NULL;
}

/* --- the machine --- */

#define REG(name) buf_printf(v->out, NULL, "  %-6s 0x%016llx\n", #name, (unsigned long long)u.name)

static bool read_registers(struct victim *v, struct registers *ret)
{
	struct user_regs_struct u;
	struct iovec iov = { &u, sizeof(u) };

	*ret = (struct registers){ 0 };
	if (ptrace(PTRACE_GETREGSET, v->tid, NT_PRSTATUS, &iov) < 0 ||
	    iov.iov_len != sizeof(u)) /* a program for 32 bits */
		return false;
#if defined(__x86_64__)
	REG(rip), REG(rsp), REG(rbp), REG(rax), REG(rbx), REG(rcx), REG(rdx), REG(rsi), REG(rdi);
	REG(r8), REG(r9), REG(r10), REG(r11), REG(r12), REG(r13), REG(r14), REG(r15), REG(eflags);
	*ret = (struct registers){ .pc = u.rip, .sp = u.rsp, .fp = u.rbp };
#elif defined(__aarch64__)
	REG(pc), REG(sp), REG(pstate);
	for (int i = 0; i < 31; i++)
		buf_printf(v->out, NULL, "  x%-5d 0x%016llx\n", i, (unsigned long long)u.regs[i]);
	*ret = (struct registers){ .pc = u.pc, .sp = u.sp, .fp = u.regs[29], .link = u.regs[30] };
#endif
	return true;
}

/* Does a call stand right before the address? */
static bool follows_call(const struct victim *v, uint64_t address)
{
#if defined(__x86_64__)
	uint8_t b[7];

	if (!peek(v, address - sizeof(b), b, sizeof(b)))
		return false;
	if (b[2] == 0xe8) /* call rel32 */
		return true;
	for (int i = 0; i < 6; i++) /* call r/m64: two to seven bytes */
		if (b[i] == 0xff && (b[i + 1] >> 3 & 7) == 2)
			return true;
	return false;
#elif defined(__aarch64__)
	uint32_t w;

	return peek(v, address - sizeof(w), &w, sizeof(w)) &&
	       ((w & 0xfc000000) == 0x94000000 || (w & 0xfffffc1f) == 0xd63f0000); /* bl, blr */
#else
	(void)v, (void)address;
	return false;
#endif
}

/* --- the stack --- */

static void put_address(struct victim *v, uint64_t address)
{
	const struct map *m = map_of(v, address);
	const char *name, *slash;
	int len;

	buf_printf(v->out, NULL, "0x%016llx", (unsigned long long)address);
	if (!m)
		return;
	/* Its directory stands below, where the mappings are. */
	slash = memrchr(m->path, '/', (size_t)m->path_len);
	name = slash ? slash + 1 : m->path;
	len = m->path_len - (int)(name - m->path);
	buf_printf(v->out, NULL, " %.*s+0x%llx", len ? len : 6, len ? name : "[anon]",
	           (unsigned long long)(address - m->base));
}

static void put_frame(struct victim *v, uint64_t address, bool guess)
{
	buf_printf(v->out, NULL, "  #%-2d%s ", v->frames++, guess ? "?" : " ");
	put_address(v, address);
	buf_putc(v->out, '\n', NULL);
}

/* aarch64 may sign return addresses in the bits above. */
static uint64_t plain(uint64_t address)
{
#if defined(__aarch64__)
	return address & ((UINT64_C(1) << 48) - 1);
#else
	return address;
#endif
}

static bool is_return(const struct victim *v, uint64_t address)
{
	return map_of(v, address) && follows_call(v, address);
}

static void scan(struct victim *v, uint64_t from, uint64_t to, int max_frames)
{
	uint64_t words[SCAN_PIECE / 8];

	from = (from + 7) & ~UINT64_C(7);
	while (from < to && v->frames < max_frames) {
		/* Never across a page: the next one may be the end of the stack. */
		size_t n = SCAN_PIECE - from % SCAN_PIECE;

		if (n > to - from)
			n = (to - from) & ~UINT64_C(7);
		if (!n || !peek(v, from, words, n))
			return;
		for (size_t i = 0; i < n / 8 && v->frames < max_frames; i++)
			if (is_return(v, plain(words[i])))
				put_frame(v, plain(words[i]), true);
		from += n;
	}
}

struct frame {
	uint64_t next, ret;
};

/* Frames lie behind each other on the stack; anything else in the register is none. */
static bool read_frame(const struct victim *v, uint64_t at, uint64_t low, struct frame *f)
{
	if (at < low || at - low > FRAME_BYTES || at % 8 || !peek(v, at, f, sizeof(*f)))
		return false;
	f->ret = plain(f->ret);
	return is_return(v, f->ret);
}

static void walk(struct victim *v, const struct registers *r)
{
	const struct map *here = map_of(v, r->pc);
	uint64_t fp = r->fp, low = r->sp;
	uint64_t top = r->sp + SCAN_BYTES;
	struct frame f;

	put_frame(v, r->pc, false);
	if (r->link && is_return(v, plain(r->link)))
		put_frame(v, plain(r->link), true);
	/* A library without frame pointers leaves that of its caller in place: what is
	 * between is to be guessed.  The same when the program jumped to nowhere. */
	if (read_frame(v, fp, low, &f) && (!here || map_of(v, f.ret)->path != here->path))
		scan(v, r->sp, fp, v->frames + GAP_FRAMES);
	while (v->frames < FRAMES_MAX && read_frame(v, fp, low, &f)) {
		put_frame(v, f.ret, false);
		low = fp + sizeof(f);
		fp = f.next;
	}
	scan(v, low, top, FRAMES_MAX);
}

/* --- what happened --- */

static const char *code_text(int sig, int code)
{
	static const struct {
		int sig, code;
		const char *text;
	} texts[] = {
		{ SIGSEGV, SEGV_MAPERR, "nothing is mapped there" },
		{ SIGSEGV, SEGV_ACCERR, "the mapping does not allow it" },
		{ SIGBUS, BUS_ADRALN, "not aligned" },
		{ SIGBUS, BUS_ADRERR, "behind the end of a mapped file" },
		{ SIGBUS, BUS_OBJERR, "a fault of the hardware" },
		{ SIGFPE, FPE_INTDIV, "an integer was divided by zero" },
		{ SIGFPE, FPE_INTOVF, "an integer overflowed" },
		{ SIGFPE, FPE_FLTDIV, "a number was divided by zero" },
		{ SIGFPE, FPE_FLTINV, "not a number" },
		{ SIGILL, ILL_ILLOPC, "no such instruction" },
		{ SIGILL, ILL_ILLOPN, "no such operand" },
		{ SIGILL, ILL_PRVOPC, "a privileged instruction" },
		{ SIGTRAP, TRAP_BRKPT, "a breakpoint" },
	};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		if (texts[i].sig == sig && texts[i].code == code)
			return texts[i].text;
	return code == SI_KERNEL ? "by the kernel" : code <= 0 ? "sent by a process" : "unknown";
}

static void put_signal(struct victim *v, int sig)
{
	siginfo_t info = { .si_signo = 0 };
	const char *name = strsignal(sig);

	buf_printf(v->out, NULL, "signal:  %d (%s)\n", sig, name ? name : "?");
	if (ptrace(PTRACE_GETSIGINFO, v->tid, 0, &info) < 0)
		return;
	buf_printf(v->out, NULL, "code:    %d (%s)\n", info.si_code, code_text(sig, info.si_code));
	if (info.si_code <= 0)
		buf_printf(v->out, NULL, "sender:  process %d\n", (int)info.si_pid);
	else if (sig != SIGSYS)
		buf_printf(v->out, NULL, "address: 0x%llx\n",
		           (unsigned long long)(uintptr_t)info.si_addr);
}

/* Arguments with spaces between; what a terminal would obey comes out as '?'. */
static void put_command(struct victim *v)
{
	struct buf b;

	buf_init(&b, 2 * COMMAND_MAX);
	read_text(v->pid, "cmdline", &b);
	buf_puts(v->out, "command:", NULL);
	for (size_t i = 0; i < buf_len(&b) && i < COMMAND_MAX; i++) {
		uint8_t ch = buf_data(&b)[i];

		if (i == 0)
			buf_putc(v->out, ' ', NULL);
		if (ch || i + 1 < buf_len(&b))
			buf_putc(v->out, !ch ? ' ' : ch < 0x20 || ch == 0x7f ? '?' : ch, NULL);
	}
	buf_puts(v->out, buf_len(&b) > COMMAND_MAX ? "...\n" : "\n", NULL);
	buf_release(&b);
}

static void put_program(struct victim *v)
{
	char path[48], exe[LIMIT_PATH];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)v->pid);
	n = readlink(path, exe, sizeof(exe));
	buf_printf(v->out, NULL, "program: %.*s\n", n > 0 ? (int)n : 1, n > 0 ? exe : "?");
	put_command(v);
	buf_printf(v->out, NULL, "process: %d", (int)v->pid);
	if (v->tid != v->pid)
		buf_printf(v->out, NULL, ", thread %d", (int)v->tid);
	buf_putc(v->out, '\n', NULL);
}

/* The mappings with code: what offsets are relative to. */
static void put_maps(struct victim *v)
{
	buf_puts(v->out, "code (from, to, where offsets begin, file):\n", NULL);
	for (size_t i = 0; i < v->n_maps; i++) {
		const struct map *m = &v->maps[i];

		if (buf_printf(v->out, NULL, "  %012llx-%012llx %012llx %.*s\n",
		               (unsigned long long)m->start, (unsigned long long)m->end,
		               (unsigned long long)m->base, m->path_len, m->path) < 0)
			return; /* no room: the stack is there, that is what counts */
	}
}

void crash_report(pid_t pid, pid_t tid, int sig, struct buf *out)
{
	struct victim *v = calloc(1, sizeof(*v));
	struct registers r;

	if (!v)
		return;
	v->pid = pid;
	v->tid = tid;
	v->out = out;
	buf_init(&v->maps_text, MAPS_TEXT);
	read_text(pid, "maps", &v->maps_text);
	parse_maps(v);
	put_program(v);
	put_signal(v, sig);
	buf_puts(out, "registers:\n", NULL);
	if (read_registers(v, &r)) {
		buf_puts(out,
		         "stack ('?': a guess, found by searching; addr2line -e MODULE OFFSET):\n",
		         NULL);
		walk(v, &r);
	} else {
		buf_puts(out, "  cannot be read\n", NULL);
	}
	put_maps(v);
	buf_release(&v->maps_text);
	free(v);
}
