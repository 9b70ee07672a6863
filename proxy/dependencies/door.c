/* SPDX-License-Identifier: Apache-2.0
 *
 * The network while packages are installed: of a sandbox whose provider can change what it
 * reaches, only the hosts of the index, only while the tool runs, and only if something is missing.
 *
 * The step says which hosts the tool will ask (event index_hosts) and waits for the end of its
 * standard input, which comes when they are open. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/log.h"
#include "proxy/dependencies/state.h"
#include "sdk-wrapper/egress.h"

enum { HOSTS_MAX = 32, FILE_MAX = 16384 };

bool dependencies_have_door(const struct run *r)
{
	bool open = r->reused ? r->sandbox.network : r->o->network;

	return r->provider && r->provider->reach && !open &&
	       dependencies_may_install(r->o, r->plan);
}

static void name_hosts_file(const struct dependencies *d, char to[64])
{
	snprintf(to, 64, "journal/%s.hosts", dependency_tools[d->tool].step);
}

/* What the user allows and those hosts; NULL and ERR_INTEGRITY: they are none. */
static char **both(const struct dependencies *d, const json *hosts, struct err *e)
{
	struct buf list;
	const char *text;
	char **ret = NULL;
	size_t n = 0;

	buf_init(&list, FILE_MAX);
	for (char **h = d->r->o->hosts; h && *h; h++)
		buf_printf(&list, NULL, "%s%s", buf_len(&list) ? "," : "", *h);
	for (const json *v = json_first(hosts); v && n < HOSTS_MAX; v = json_next(v), n++)
		if (json_string(v) && !strchr(json_string(v), ','))
			buf_printf(&list, NULL, "%s%s", buf_len(&list) ? "," : "", json_string(v));
	text = n ? buf_cstr(&list, e) : NULL;
	if (text)
		ret = egress_parse(text, e);
	else
		err_set(e, ERR_INTEGRITY, 0, "it names none");
	buf_release(&list);
	return ret;
}

static void on_opened(void *user, const struct err *err)
{
	struct dependencies *d = user;
	struct err e = ERR_INIT;

	if (err) {
		e = *err;
		err_wrap(&e, "the network for the index");
		run_stop(d->r, &e);
		return;
	}
	log_info("the index's hosts are open for %s", package_tool_names[d->tool]);
	close_fd(&d->go_fd);
}

static int open_door(struct dependencies *d, const json *hosts, struct err *e)
{
	struct run *r = d->r;

	free(d->hosts);
	d->hosts = both(d, hosts, e);
	if (!d->hosts)
		return err_wrap(e, "the hosts of the index");
	d->door_open = true;
	return r->provider->reach(r->kept, false, (const char *const *)d->hosts, on_opened, d, e);
}

/* Kept before the event is acknowledged: who takes over reads it there. */
static int keep_hosts(struct dependencies *d, const json *hosts, struct err *e)
{
	char path[64];
	struct buf b;
	int ret;

	buf_init(&b, FILE_MAX);
	name_hosts_file(d, path);
	ret = json_print(hosts, &b, e);
	if (ret == 0)
		ret = fs_write(d->r->dir.fd, path, buf_data(&b), buf_len(&b), 0600, false, e);
	buf_release(&b);
	return ret;
}

void dependencies_event(struct run *r, const json *params)
{
	struct dependencies *d = r->dependencies;
	const char *name = json_string(json_get(params, "event"));
	const char *step = json_string(json_get(params, "step_id"));
	const json *hosts = json_get(json_get(params, "data"), "hosts");
	struct err e = ERR_INIT;

	if (!d || !d->running || d->go_fd < 0 || d->door_open || !name || !step ||
	    strcmp(name, "index_hosts") != 0 || strcmp(step, dependency_tools[d->tool].step) != 0)
		return;
	if (keep_hosts(d, hosts, &e) < 0 || open_door(d, hosts, &e) < 0)
		run_stop(r, &e);
}

int dependency_door_begin(struct dependencies *d, struct err *e)
{
	char path[64];
	struct buf b;
	json *v = NULL;
	int p[2], ret = 0;

	if (!now(d)->asks)
		return 0;
	if (pipe2(p, O_CLOEXEC) < 0)
		return err_set(e, ERR_SYS, errno, "pipe");
	d->go_fd = p[1];
	d->wait_fd = p[0];
	d->input = stdin_source_new(d->r->loop, p[0], e);
	if (!d->input)
		return -1;
	now(d)->sr.input = d->input;
	name_hosts_file(d, path);
	if (faccessat(d->r->dir.fd, path, F_OK, 0) < 0)
		return 0;
	/* A proxy before us got as far: the step does not say it again. */
	buf_init(&b, FILE_MAX);
	if (fs_read(d->r->dir.fd, path, FILE_MAX, &b, e) == 0)
		v = json_parse((const char *)buf_data(&b), buf_len(&b), FILE_MAX, 4, e);
	ret = v ? open_door(d, v, e) : -1;
	json_free(v);
	buf_release(&b);
	return ret;
}

static void on_shut(void *user, const struct err *err)
{
	struct dependencies *d = user;
	struct err e = ERR_INIT;

	if (err) {
		e = *err;
		err_wrap(&e, "the index's hosts could not be shut off again");
	}
	d->door_open = false;
	d->then(d, &e);
}

void dependency_door_end(struct dependencies *d,
                         void (*then)(struct dependencies *d, struct err *e))
{
	struct run *r = d->r;
	struct err e = ERR_INIT;

	close_fd(&d->go_fd);
	stdin_source_free(d->input);
	d->input = NULL;
	now(d)->sr.input = NULL;
	close_fd(&d->wait_fd);
	if (!d->door_open) {
		then(d, &e);
		return;
	}
	d->then = then;
	if (r->provider->reach(r->kept, false, (const char *const *)r->o->hosts, on_shut, d, &e) <
	    0)
		on_shut(d, &e);
}

void dependency_door_release(struct dependencies *d)
{
	close_fd(&d->go_fd);
	stdin_source_free(d->input);
	d->input = NULL;
	close_fd(&d->wait_fd);
	free(d->hosts);
	d->hosts = NULL;
}
