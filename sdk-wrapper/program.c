/* SPDX-License-Identifier: Apache-2.0 */
#include "sdk-wrapper/program.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"

static const struct {
	unsigned number;
	const char *name;
} machines[] = {
	{ EM_X86_64, "x86_64" }, { EM_AARCH64, "aarch64" }, { EM_RISCV, "riscv64" },
	{ EM_PPC64, "ppc64le" }, { EM_S390, "s390x" },	    { EM_386, "i686" },
};

int program_machine(const char *path, const char **ret, struct err *e)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	Elf64_Ehdr head;	/* its beginning is that of the 32-bit one */
	ssize_t n;

	*ret = "";
	if (fd < 0)
		return err_set(e, ERR_PROVIDER, errno, "worker program '%s'", path);
	n = read(fd, &head, sizeof(head));
	if (n < (ssize_t)sizeof(head) || memcmp(head.e_ident, ELFMAG, SELFMAG) != 0)
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(machines); i++)
		if (machines[i].number == head.e_machine)
			*ret = machines[i].name;
	return 0;
}

int program_fits_here(const char *path, struct err *e)
{
	const char *machine;
	struct utsname here;

	if (program_machine(path, &machine, e) < 0)
		return -1;
	if (!*machine || uname(&here) < 0 || strcmp(machine, here.machine) == 0)
		return 0;
	return err_set(e, ERR_UNSUPPORTED, 0,
		       "worker program '%s' is for %s, this machine is %s: FARSTEP_WORKER names "
		       "another one",
		       path, machine, here.machine);
}
