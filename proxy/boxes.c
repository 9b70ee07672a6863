/* SPDX-License-Identifier: Apache-2.0 */
#define _GNU_SOURCE
#include "proxy/boxes.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/log.h"
#include "proxy/mark.h"
#include "proxy/rundir.h"
#include "proxy/userkey.h"
#include "sdk-wrapper/e2b_fleet.h"
#include "sdk-wrapper/process.h"

#define E2B_MS      30000
#define NEW_S       60 /* a directory so young, with nothing in it, is being filled */
#define JOURNAL     "journal/run.json"
#define JOURNAL_MAX LIMIT_TEXT

struct gathering {
	struct boxes *b;
	const struct boxes_spec *spec;
	char base[256], key_id[17], host[128];
	struct err *e;
	bool failed;
};

/* ---- the list ---- */

struct box *boxes_find(const struct boxes *b, const char *id)
{
	for (size_t i = 0; i < b->n; i++)
		if (strcmp(b->v[i].sandbox.id, id) == 0)
			return &b->v[i];
	return NULL;
}

/* One of which no more than its run is known yet. */
static struct box *find_nameless(const struct boxes *b, const char *run)
{
	for (size_t i = 0; i < b->n; i++) {
		const struct sandbox *s = &b->v[i].sandbox;

		if (strcmp(s->run, run) == 0 &&
		    (!s->provider[0] || strncmp(s->id, "create:", 7) == 0))
			return &b->v[i];
	}
	return NULL;
}

/* Borrowed until the next one; NULL: no memory, which ends the gathering. */
static struct box *box_add(struct gathering *g)
{
	struct box *more = realloc(g->b->v, (g->b->n + 1) * sizeof(*more));

	if (!more) {
		err_set(g->e, ERR_NO_MEMORY, 0, "list of sandboxes");
		g->failed = true;
		return NULL;
	}
	g->b->v = more;
	more[g->b->n] = (struct box){ .state = BOX_REMAINS };
	snprintf(more[g->b->n].host, sizeof(more->host), "%s", g->host);
	return &g->b->v[g->b->n++];
}

static void lost_add(struct gathering *g, struct box *x, const char *run)
{
	box_run *more;

	for (size_t i = 0; i < x->n_lost; i++)
		if (strcmp(x->lost[i], run) == 0)
			return;
	more = realloc(x->lost, (x->n_lost + 1) * sizeof(*more));
	if (!more) {
		err_set(g->e, ERR_NO_MEMORY, 0, "list of sandboxes");
		g->failed = true;
		return;
	}
	x->lost = more;
	snprintf(more[x->n_lost++], sizeof(*more), "%s", run);
}

void boxes_release(struct boxes *b)
{
	for (size_t i = 0; i < b->n; i++)
		free(b->v[i].lost);
	free(b->v);
	free(b->sockets);
	*b = (struct boxes){ .n = 0 };
}

/* A run's id begins with the time of its making. */
static uint64_t run_time_us(const char *run)
{
	struct tm tm = { 0 };

	return strptime(run, "%Y%m%dt%H%M%S-", &tm) ? (uint64_t)timegm(&tm) * 1000000 : 0;
}

static enum box_state state_here(const struct sandbox *s)
{
	const struct provider *p = provider_find(s->provider, NULL);

	return p && p->state && p->state(s) == SANDBOX_RUNNING ? BOX_RUNNING : BOX_REMAINS;
}

/* ---- run directories ---- */

struct run_look {
	bool is_there, locked, ended, has_state;
};

static struct run_look look_at(struct rundir *d, const char *path)
{
	struct run_look l = { .is_there = rundir_open(d, path, NULL) == 0 };

	if (!l.is_there)
		return l;
	l.locked = rundir_is_locked(d);
	l.ended = faccessat(d->fd, "status.json", F_OK, 0) == 0;
	l.has_state = faccessat(d->fd, "sandbox", F_OK, 0) == 0;
	return l;
}

static void note_run(struct gathering *g, struct box *x, const char *run, struct run_look l)
{
	x->here = true;
	x->living |= l.locked;
	if (!l.locked && !l.ended)
		lost_add(g, x, run);
}

/* The run for which the sandbox was made, where its mark or its label says that it is. */
static void note_maker(struct gathering *g, struct box *x, const char *path)
{
	struct rundir d;
	struct run_look l = look_at(&d, path);

	if (!l.is_there)
		return;
	snprintf(x->run_dir, sizeof(x->run_dir), "%s", d.path);
	note_run(g, x, d.run, l);
	rundir_close(&d);
}

static json *read_journal(const struct rundir *d)
{
	struct buf text CLEANUP(buf_release);

	buf_init(&text, JOURNAL_MAX);
	if (fs_read(d->fd, JOURNAL, JOURNAL_MAX, &text, NULL) < 0)
		return NULL;
	return json_parse((const char *)buf_data(&text), buf_len(&text), JOURNAL_MAX,
	                  LIMIT_JSON_DEPTH, NULL);
}

/* The box of a journal's sandbox: one that is known, or a new one if there is anything of it. */
static struct box *box_of_journal(struct gathering *g, const struct rundir *d, const json *journal,
                                  struct run_look l)
{
	const char *key = json_string(json_get(journal, "key"));
	const char *host = json_string(json_get(journal, "host"));
	struct sandbox s = { .pid = 0 };
	struct box *x;
	bool is_e2b;

	if (!json_get(journal, "sandbox") ||
	    sandbox_parse(json_get(journal, "sandbox"), &s, NULL) < 0)
		s = (struct sandbox){ .pid = 0 };
	if (!s.run[0])
		snprintf(s.run, sizeof(s.run), "%s", d->run);
	is_e2b = strcmp(s.provider, "e2b") == 0;
	/* A directory that machines share: whether it is gone is known on its own machine. */
	if (host && *host && strcmp(host, g->host) != 0 && !is_e2b)
		return NULL;
	if ((x = boxes_find(g->b, s.id)) || (x = find_nameless(g->b, s.run)))
		return x;
	if (state_here(&s) != BOX_RUNNING && !is_e2b &&
	    (!l.has_state || strcmp(s.run, d->run) != 0))
		return NULL;
	if (is_e2b && l.ended && !l.locked)
		return NULL;
	x = box_add(g);
	if (!x)
		return NULL;
	if (!s.id[0])	/* its proxy ended before it had one */
		snprintf(s.id, sizeof(s.id), "%s", s.run);
	if (!s.state_dir[0])
		snprintf(s.state_dir, sizeof(s.state_dir), "%.490s/sandbox", d->path);
	x->sandbox = s;
	x->state = state_here(&s);
	x->born_us = run_time_us(s.run);
	x->ours = !key || strcmp(key, g->key_id) == 0;
	snprintf(x->key_id, sizeof(x->key_id), "%.16s", key ? key : g->key_id);
	return x;
}

static void take_run(struct gathering *g, const char *run)
{
	char path[1200];
	struct rundir d;
	struct run_look l;
	auto_json json *journal = NULL;
	struct box *x;

	snprintf(path, sizeof(path), "%s/%s", g->spec->root, run);
	l = look_at(&d, path);
	if (!l.is_there)
		return;
	/* The others have no sandbox any more; there may be thousands. */
	if (l.locked || !l.ended || l.has_state) {
		journal = read_journal(&d);
		x = box_of_journal(g, &d, journal, l);
		if (x) {
			note_run(g, x, run, l);
			if (strcmp(x->sandbox.run, run) == 0)
				snprintf(x->run_dir, sizeof(x->run_dir), "%s", d.path);
			if (l.has_state && !x->sandbox.state_dir[0] &&
			    strcmp(x->sandbox.run, run) == 0)
				snprintf(x->sandbox.state_dir, sizeof(x->sandbox.state_dir),
				         "%.490s/sandbox", d.path);
		}
	}
	rundir_close(&d);
}

static int take_runs(struct gathering *g)
{
	char(*runs)[LIMIT_RUN_ID + 1] = NULL;
	size_t n = 0;

	if (rundir_list(g->spec->root, &runs, &n, g->e) < 0)
		return -1;
	for (size_t i = 0; i < n && !g->failed; i++)
		take_run(g, runs[i]);
	free(runs);
	return g->failed ? -1 : 0;
}

/* ---- marks ---- */

static void take_mark(struct gathering *g, const char *name, const struct stat *st)
{
	bool held, has;
	struct mark m;
	char dir[256];
	struct box *x;

	if (snprintf(dir, sizeof(dir), "%.180s/%.64s", g->base, name) >= (int)sizeof(dir))
		return;
	held = mark_is_held(dir);
	has = mark_read(dir, &m, NULL) == 0;
	/* Another farstep is about to fill it. */
	if (!has && (held || (uint64_t)st->st_mtime + NEW_S > now_real_us() / 1000000))
		return;
	x = box_add(g);
	if (!x)
		return;
	snprintf(x->dir, sizeof(x->dir), "%s", dir);
	x->living = held;
	x->here = has || mark_has_lock(dir); /* an older farstep made none */
	if (!has) {	/* what a crash left before there was more to say */
		snprintf(x->sandbox.id, sizeof(x->sandbox.id), "%.64s", name);
		snprintf(x->sandbox.run, sizeof(x->sandbox.run), "%.64s", name);
		x->born_us = (uint64_t)st->st_mtime * 1000000;
		x->ours = true;
		snprintf(x->key_id, sizeof(x->key_id), "%s", g->key_id);
		return;
	}
	x->sandbox = m.sandbox;
	x->state = state_here(&m.sandbox);
	x->keep = m.keep;
	x->born_us = m.born_us;
	x->ours = strcmp(m.key_id, g->key_id) == 0;
	snprintf(x->key_id, sizeof(x->key_id), "%s", m.key_id);
	if (m.run_dir[0])
		note_maker(g, x, m.run_dir);
}

/* Nobody listens any more. */
static bool is_dead_socket(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0 || (size_t)snprintf(a.sun_path, sizeof(a.sun_path), "%s", path) >=
	                      sizeof(a.sun_path))
		return false;
	return connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0 && errno == ECONNREFUSED;
}

static void take_socket(struct gathering *g, const char *name)
{
	char path[256];
	char(*more)[256];

	if (snprintf(path, sizeof(path), "%.180s/%.70s", g->base, name) >= (int)sizeof(path) ||
	    !is_dead_socket(path))
		return;
	more = realloc(g->b->sockets, (g->b->n_sockets + 1) * sizeof(*more));
	if (!more)
		return;
	g->b->sockets = more;
	memcpy(more[g->b->n_sockets++], path, sizeof(path));
}

static int take_marks(struct gathering *g)
{
	auto_closedir DIR *d = opendir(g->base);
	struct dirent *ent;

	if (!d)
		return err_set(g->e, ERR_SYS, errno, "%s", g->base);
	while (!g->failed && (ent = readdir(d))) {
		size_t len = strlen(ent->d_name);
		struct stat st;

		if (!run_time_us(ent->d_name) || len > LIMIT_RUN_ID ||
		    fstatat(dirfd(d), ent->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (S_ISDIR(st.st_mode))
			take_mark(g, ent->d_name, &st);
		else if (S_ISSOCK(st.st_mode))
			take_socket(g, ent->d_name);
	}
	return g->failed ? -1 : 0;
}

/* ---- processes ---- */

static const char *option_of(const char *const *argv, size_t n, const char *name)
{
	for (size_t i = 1; i + 1 < n; i++)
		if (strcmp(argv[i], name) == 0)
			return argv[i + 1];
	return "";
}

/* Whose token it takes. */
static bool takes_our_token(const struct gathering *g, const char *run, const char *digest)
{
	char token[SHA256_HEX], hex[SHA256_HEX];
	uint8_t raw[SHA256_LEN];

	key_token(g->spec->user_key, run, token);
	sha256(token, strlen(token), raw);
	hex_encode(raw, sizeof(raw), hex);
	wipe(token, sizeof(token));
	return strcmp(hex, digest) == 0;
}

/* "local-RUN-0badcafe": the parts of a sandbox's id here. */
static bool split_id(const char *id, struct sandbox *ret)
{
	const char *provider = provider_of_id(id), *to = strrchr(id, '-');
	const char *from = id + strlen(provider) + 1;

	if (strcmp(provider, "e2b") == 0 || to <= from || to - from > LIMIT_RUN_ID ||
	    strlen(id) >= sizeof(ret->id))
		return false;
	snprintf(ret->provider, sizeof(ret->provider), "%s", provider);
	snprintf(ret->id, sizeof(ret->id), "%s", id);
	snprintf(ret->run, sizeof(ret->run), "%.*s", (int)(to - from), from);
	return run_time_us(ret->run) != 0;
}

static void take_process(void *user, pid_t pid, uint64_t start, const char *const *argv, size_t n)
{
	struct gathering *g = user;
	const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0];
	const char *root = option_of(argv, n, "--root");
	struct sandbox s = { .pid = pid, .pid_start = start };
	struct box *x;

	if (g->failed || (strcmp(name, "farstep-worker") != 0 && strcmp(name, "worker") != 0) ||
	    *option_of(argv, n, "--role") || !split_id(option_of(argv, n, "--sandbox-id"), &s))
		return;
	snprintf(s.address, sizeof(s.address), "unix:%s/%s/w.sock", g->base, s.run);
	/* Inside of a bubblewrap sandbox paths are other ones. */
	if (strcmp(s.provider, "native") == 0 && strlen(root) > 5)
		snprintf(s.state_dir, sizeof(s.state_dir), "%.*s", (int)(strlen(root) - 5), root);
	x = boxes_find(g->b, s.id);
	if (x && x->state == BOX_RUNNING)
		return;
	if (!x)
		x = find_nameless(g->b, s.run);
	if (!x) {
		x = box_add(g);
		if (!x)
			return;
		x->born_us = run_time_us(s.run);
	}
	x->ours = takes_our_token(g, s.run, option_of(argv, n, "--token-sha256"));
	snprintf(x->key_id, sizeof(x->key_id), "%s", x->ours ? g->key_id : "");
	x->sandbox = s;
	x->state = BOX_RUNNING;
}

/* ---- together ---- */

static int begin(struct gathering *g, struct boxes *b, const struct boxes_spec *spec, struct err *e)
{
	*g = (struct gathering){ .b = b, .spec = spec, .e = e };
	key_id(spec->user_key, g->key_id);
	if (gethostname(g->host, sizeof(g->host) - 1) < 0)
		snprintf(g->host, sizeof(g->host), "unknown");
	return runtime_dir(g->base, e);
}

int boxes_here(struct boxes *b, const struct boxes_spec *spec, struct err *e)
{
	struct gathering g;

	*b = (struct boxes){ .n = 0 };
	if (begin(&g, b, spec, e) < 0 || take_marks(&g) < 0)
		return -1;
	process_each_with_option("--sandbox-id", take_process, &g);
	return g.failed ? -1 : take_runs(&g);
}

static void on_found(void *user, const struct e2b_found *f)
{
	struct gathering *g = user;
	struct box *x = boxes_find(g->b, f->sandbox.id);
	char path[1200];

	if (!x)
		x = find_nameless(g->b, f->sandbox.run);
	if (!x) {
		x = box_add(g);
		if (!x)
			return;
		snprintf(path, sizeof(path), "%s/%s", g->spec->root, f->sandbox.run);
		note_maker(g, x, path);
	}
	x->sandbox = f->sandbox;
	x->state = f->paused ? BOX_PAUSED : BOX_RUNNING;
	x->keep |= f->keep;
	x->born_us = f->started_us;
	x->ours = strcmp(f->key_id, g->key_id) == 0;
	snprintf(x->key_id, sizeof(x->key_id), "%s", f->key_id);
	snprintf(x->host, sizeof(x->host), "%s", f->host);
}

/* Those of E2B that it does not list: gone, and of interest only if a mark is left. */
static void drop_unlisted(struct boxes *b, bool asked)
{
	size_t kept = 0;

	for (size_t i = 0; i < b->n; i++) {
		struct box *x = &b->v[i];

		if (strcmp(x->sandbox.provider, "e2b") != 0 || (asked && x->state != BOX_REMAINS) ||
		    (asked && x->dir[0]))
			b->v[kept++] = *x;
		else
			free(x->lost);
	}
	b->n = kept;
}

int boxes_at_e2b(struct boxes *b, const struct boxes_spec *spec, struct err *e)
{
	struct gathering g;
	int r = 0;

	if (begin(&g, b, spec, e) < 0)
		return -1;
	if (e2b_is_usable())
		r = e2b_list_all(spec->all_keys ? NULL : g.key_id, E2B_MS, on_found, &g, e);
	drop_unlisted(b, e2b_is_usable() && r == 0);
	return r < 0 || g.failed ? -1 : 0;
}
