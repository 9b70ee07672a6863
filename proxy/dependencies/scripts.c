/* SPDX-License-Identifier: Apache-2.0 */
#include "proxy/dependencies/scripts.h"

#define EMBED(name, file)                                                                          \
	__asm__(".pushsection .rodata\n"                                                           \
	        ".globl " #name "\n"                                                               \
	        #name ":\n"                                                                        \
	        ".incbin \"" file "\"\n"                                                           \
	        ".byte 0\n"                                                                        \
	        ".popsection\n")

EMBED(dependencies_pip, "proxy/dependencies/pip.py");
EMBED(dependencies_npm, "proxy/dependencies/npm.js");
