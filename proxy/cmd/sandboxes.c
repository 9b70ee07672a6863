/* SPDX-License-Identifier: Apache-2.0
 *
 * farstep sandboxes list, kill, gc: what is there, and its end. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "protocol/base/cleanup.h"
#include "protocol/base/fs.h"
#include "protocol/base/loop.h"
#include "proxy/boxes.h"
#include "proxy/cmd/cmd.h"
#include "proxy/duration.h"
#include "proxy/rundir.h"
#include "proxy/userkey.h"
#include "sdk-wrapper/e2b_fleet.h"

#define RESULT_MAX (16 * 1024 * 1024)
#define FIND_MS    30000

/* What a command finds, does, and says in the end. */
struct job {
	struct options *o;
	char root[1024];
	uint8_t key[USER_KEY_LEN];
	struct boxes boxes;
	struct err error; /* the first; what could be done was done */
	uint64_t now_us;
	struct buf ended, left, failed, lost; /* elements of JSON arrays */
};

static void job_release(struct job *j)
{
	boxes_release(&j->boxes);
	buf_release(&j->ended);
	buf_release(&j->left);
	buf_release(&j->failed);
	buf_release(&j->lost);
	wipe(j->key, sizeof(j->key));
}

static void fail(struct job *j, const struct err *e)
{
	if (!j->error.code)
		j->error = *e;
	fprintf(stderr, "farstep: %s: %s\n", err_name(e->code), e->msg);
}

/* Without E2B what is here is still told; with, the failure counts in the exit code. */
static int gather(struct job *j, struct options *o, bool all_keys, struct err *e)
{
	struct boxes_spec spec = { .root = j->root, .user_key = j->key, .all_keys = all_keys };
	struct err away = ERR_INIT;

	*j = (struct job){ .o = o, .now_us = now_real_us() };
	buf_init(&j->ended, RESULT_MAX);
	buf_init(&j->left, RESULT_MAX);
	buf_init(&j->failed, RESULT_MAX);
	buf_init(&j->lost, RESULT_MAX);
	if (rundir_root(o->run_dir, j->root, false, e) < 0 ||
	    userkey_load(o->key_file, j->key, e) < 0 || boxes_here(&j->boxes, &spec, e) < 0)
		return -1;
	if (boxes_at_e2b(&j->boxes, &spec, &away) < 0)
		fail(j, &away);
	return 0;
}

static bool is_shown(const struct job *j, const struct box *b)
{
	return (j->o->all || b->ours) &&
	       box_age_s(b, j->now_us) >= (uint64_t)j->o->older_than_s;
}

/* ---- saying it ---- */

static void put_text(struct buf *array, const char *text)
{
	struct jw w;

	if (buf_len(array))
		buf_putc(array, ',', NULL);
	jw_init(&w, array);
	jw_str(&w, text);
	jw_done(&w, NULL);
}

static void put_pair(struct buf *array, const char *id, const char *key, const char *text)
{
	struct jw w;

	if (buf_len(array))
		buf_putc(array, ',', NULL);
	jw_init(&w, array);
	jw_obj(&w);
	jw_kstr(&w, "id", id);
	jw_kstr(&w, key, text);
	jw_end(&w);
	jw_done(&w, NULL);
}

static void print_array(const char *name, const struct buf *elements)
{
	printf("\"%s\":[%.*s]", name, (int)buf_len(elements), (const char *)buf_data(elements));
}

static void print_box_json(const struct job *j, const struct box *b, struct jw *w)
{
	jw_obj(w);
	jw_kstr(w, "id", b->sandbox.id);
	jw_kstr(w, "target", b->sandbox.provider[0] ? b->sandbox.provider : NULL);
	jw_kstr(w, "run", b->sandbox.run);
	jw_kstr(w, "run_dir", b->run_dir[0] ? b->run_dir : NULL);
	jw_kstr(w, "host", b->host);
	jw_kstr(w, "key", b->key_id);
	jw_kbool(w, "ours", b->ours);
	jw_kint(w, "age_s", (int64_t)box_age_s(b, j->now_us));
	jw_kstr(w, "state", box_state_name(b));
	jw_key(w, "living_proxy");
	if (b->here)
		jw_bool(w, b->living);
	else
		jw_null(w); /* nobody knows, from here */
	jw_kbool(w, "kept", b->keep);
	jw_karr(w, "attachable");
	for (size_t i = 0; i < b->n_lost; i++)
		jw_str(w, b->lost[i]);
	jw_end(w);
	jw_end(w);
}

static int list_json(const struct job *j, struct err *e)
{
	struct buf out CLEANUP(buf_release);
	struct jw w;

	buf_init(&out, RESULT_MAX);
	jw_init(&w, &out);
	jw_obj(&w);
	jw_karr(&w, "sandboxes");
	for (size_t i = 0; i < j->boxes.n; i++)
		if (is_shown(j, &j->boxes.v[i]))
			print_box_json(j, &j->boxes.v[i], &w);
	jw_end(&w);
	jw_end(&w);
	if (jw_done(&w, e) < 0 || buf_putc(&out, '\n', e) < 0)
		return -1;
	return fs_write_all(1, buf_data(&out), buf_len(&out), e);
}

static void list_text(const struct job *j)
{
	char age[24];
	bool any = false;

	for (size_t i = 0; i < j->boxes.n; i++) {
		const struct box *b = &j->boxes.v[i];

		if (!is_shown(j, b))
			continue;
		if (!any && j->o->verbose >= 0)
			printf("%-46s %-6s %-32s %-16s %5s %s\n", "SANDBOX", "TARGET", "RUN",
			       "HOST", "AGE", "STATE");
		any = true;
		duration_text(box_age_s(b, j->now_us), age);
		printf("%-46s %-6s %-32s %-16s %5s %s%s\n", b->sandbox.id,
		       b->sandbox.provider[0] ? b->sandbox.provider : "-", b->sandbox.run,
		       b->host[0] ? b->host : "-", age, box_state_name(b),
		       b->ours ? "" : ", of another key");
	}
}

static int do_list(struct job *j, struct err *e)
{
	if (j->o->json)
		return list_json(j, e);
	list_text(j);
	return 0;
}

/* ---- ending ---- */

static void note_lost(struct job *j, const struct box *b, bool done)
{
	for (size_t i = 0; i < b->n_lost; i++) {
		put_text(&j->lost, b->lost[i]);
		if (!j->o->json && j->o->verbose >= 0)
			printf("run %s %s be attached any more\n", b->lost[i],
			       done ? "cannot" : "could not");
	}
}

static void say(const struct job *j, const char *what, const char *id)
{
	if (!j->o->json && j->o->verbose >= 0)
		printf("%s %s\n", what, id);
}

static void end_one(struct job *j, const struct box *b, bool spare_used)
{
	struct err e = ERR_INIT;
	bool was_there = b->state != BOX_REMAINS;

	if (spare_used && j->o->dry_run) {
		say(j, was_there ? "would end" : "would clear away", b->sandbox.id);
	} else if (box_end(b, spare_used, &e) == 0) {
		say(j, was_there ? "ended" : "cleared away", b->sandbox.id);
	} else if (e.code == ERR_BUSY) {
		put_pair(&j->left, b->sandbox.id, "why", e.msg);
		return;
	} else {
		put_pair(&j->failed, b->sandbox.id, "message", e.msg);
		fail(j, &e);
		return;
	}
	put_text(&j->ended, b->sandbox.id);
	note_lost(j, b, !j->o->dry_run);
}

static int kill_one(struct job *j, const char *id, struct buf *gone, struct err *e)
{
	struct err why = ERR_INIT;
	struct e2b_found other;
	const struct box *b;

	if (strspn(id, SANDBOX_ID_BYTES) != strlen(id) || !*id)
		return err_set(e, ERR_USAGE, 0, "'%.100s' is no id of a sandbox", id);
	b = boxes_find(&j->boxes, id);
	if (b) {
		end_one(j, b, false);
		return 0;
	}
	if (strcmp(provider_of_id(id), "e2b") == 0) {
		if (e2b_find_one(id, FIND_MS, &other, &why) == 0)
			return err_set(e, ERR_POLICY, 0,
			               "sandbox '%.64s' was not made by farstep: not ended", id);
		if (why.code != ERR_NOT_FOUND) {
			put_pair(&j->failed, id, "message", why.msg);
			fail(j, &why);
			return 0;
		}
	}
	put_text(gone, id);
	say(j, "already gone:", id);
	return 0;
}

static int do_kill(struct job *j, struct err *e)
{
	struct buf gone CLEANUP(buf_release);

	buf_init(&gone, RESULT_MAX);
	if (j->o->n_args < 2)
		return err_set(e, ERR_USAGE, 0, "usage: farstep sandboxes kill ID...");
	for (int i = 1; i < j->o->n_args; i++) {
		/* E2B did not answer: then nothing is known of its own. */
		if (j->error.code && strcmp(provider_of_id(j->o->args[i]), "e2b") == 0)
			continue;
		if (kill_one(j, j->o->args[i], &gone, e) < 0)
			return -1;
	}
	if (!j->o->json)
		return 0;
	printf("{");
	print_array("ended", &j->ended);
	printf(",");
	print_array("already_gone", &gone);
	printf(",");
	print_array("failed", &j->failed);
	printf(",");
	print_array("lost_runs", &j->lost);
	printf("}\n");
	return 0;
}

static void clear_sockets(const struct job *j)
{
	for (size_t i = 0; i < j->boxes.n_sockets; i++) {
		say(j, j->o->dry_run ? "would remove" : "removed", j->boxes.sockets[i]);
		if (!j->o->dry_run)
			unlink(j->boxes.sockets[i]);
	}
}

static int do_gc(struct job *j, struct err *e)
{
	struct gc_rule rule = { j->o->all, j->o->older_than_s, j->now_us };

	(void)e;
	for (size_t i = 0; i < j->boxes.n; i++) {
		const struct box *b = &j->boxes.v[i];
		enum gc_verdict v = gc_judge(b, &rule);

		if (v == GC_END)
			end_one(j, b, true);
		else
			put_pair(&j->left, b->sandbox.id, "why", gc_reason(v));
		if (v != GC_END && j->o->verbose > 0 && !j->o->json)
			printf("left %s: %s\n", b->sandbox.id, gc_reason(v));
	}
	clear_sockets(j);
	if (!j->o->json)
		return 0;
	printf("{\"dry_run\":%s,", j->o->dry_run ? "true" : "false");
	print_array("ended", &j->ended);
	printf(",");
	print_array("left", &j->left);
	printf(",");
	print_array("failed", &j->failed);
	printf(",");
	print_array("lost_runs", &j->lost);
	printf("}\n");
	return 0;
}

/* ---- the command ---- */

static const struct verb {
	const char *name;
	int (*run)(struct job *j, struct err *e);
	bool takes_ids, takes_all, takes_age, takes_dry_run;
} verbs[] = {
	{ "list", do_list, false, true, true, false },
	{ "kill", do_kill, true, false, false, false },
	{ "gc", do_gc, false, true, true, true },
};

static int check_use(const struct verb *v, const struct options *o, struct err *e)
{
	const char *extra = o->all && !v->takes_all               ? "--all"
	                    : o->older_than_s && !v->takes_age    ? "--older-than"
	                    : o->dry_run && !v->takes_dry_run     ? "--dry-run"
	                    : o->n_args > 1 && !v->takes_ids ? o->args[1]
	                                                          : NULL;

	return extra ? err_set(e, ERR_USAGE, 0, "sandboxes %s takes no %.60s", v->name, extra) : 0;
}

int cmd_sandboxes(struct options *o)
{
	struct job j = { .o = o };
	struct err e = ERR_INIT;
	const struct verb *v = NULL;
	int code = 0;

	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		if (strcmp(verbs[i].name, o->args[0]) == 0)
			v = &verbs[i];
	if (!v) {
		err_set(&e, ERR_USAGE, 0, "sandboxes '%.40s': want list, kill or gc", o->args[0]);
		return cmd_fail(&e);
	}
	if (check_use(v, o, &e) < 0 || gather(&j, o, o->all || v->takes_ids, &e) < 0 ||
	    v->run(&j, &e) < 0)
		code = cmd_fail(&e);
	else if (j.error.code)
		code = err_exit(j.error.code);
	job_release(&j);
	return code;
}
