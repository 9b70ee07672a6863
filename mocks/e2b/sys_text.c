/* SPDX-License-Identifier: Apache-2.0 */
#include "mocks/e2b/sys_text.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

const char *sys_text(int sys)
{
	static char text[128];

	snprintf(text, sizeof(text), "%s", strerror(sys));
	text[0] = (char)tolower((unsigned char)text[0]);
	return text;
}
