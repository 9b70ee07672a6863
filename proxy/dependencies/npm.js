// SPDX-License-Identifier: Apache-2.0
//
// Checks what Node packages are there, and installs what is missing: pip.py's twin (`node -e`),
// with the same configuration, report and exit codes.
'use strict';
const crypto = require('crypto');
const fs = require('fs');
const path = require('path');
const { spawnSync } = require('child_process');

class Failed extends Error {
	constructor(text, code) {
		super(text);
		this.code = code;
	}
}

// NAME or @SCOPE/NAME, and what stands behind the '@'.
function split(requirement) {
	const at = requirement.indexOf('@', 1);

	return at < 0 ? [requirement, ''] : [requirement.slice(0, at), requirement.slice(at + 1)];
}

// ---- what is there ----

function programs(name) {
	return (process.env.PATH || '').split(':').map((d) => path.join(d, name)).filter((p) => fs.existsSync(p));
}

// npm's own, where it is; ranges are its business.
function findSemver() {
	const places = ['semver'];

	for (const npm of programs('npm'))
		places.push(path.join(path.dirname(fs.realpathSync(npm)), '..', 'node_modules', 'semver'));
	for (const place of places) {
		try {
			return require(place);
		} catch (e) {
			continue;
		}
	}
	return null;
}

function fits(version, spec, from) {
	if (spec === '' || spec === '*' || spec === 'latest')
		return true;
	if (/^[=v]*\d+\.\d+\.\d+[^\s|]*$/.test(spec))
		return version === spec.replace(/^[=v]+/, '');
	if (/^[a-z+]+:|^[./~]|\.tgz$/.test(spec) && !/^~\d/.test(spec))
		return from === spec;
	const semver = findSemver();
	return Boolean(semver && semver.validRange(spec) && semver.satisfies(version, spec));
}

function look(directories, requirement) {
	const [name, spec] = split(requirement);

	for (const d of directories) {
		let found;

		try {
			found = JSON.parse(fs.readFileSync(path.join(d, name, 'package.json'), 'utf8'));
		} catch (e) {
			continue;
		}
		// The first one is what a step would get.
		return fits(String(found.version), spec, sources[name]) ? name + ' ' + found.version : null;
	}
	return null;
}

// What a step's require looks through.
function modulePaths() {
	const found = (process.env.NODE_PATH || '').split(':').filter(Boolean);

	for (let d = process.cwd(); ; d = path.dirname(d)) {
		found.push(path.join(d, 'node_modules'));
		if (d === path.dirname(d))
			return found.concat(require('module').globalPaths);
	}
}

// In an environment of ours: what each package was asked for as.
const sources = {};

function check(requirements, directories) {
	const present = [], missing = [];

	for (const r of requirements) {
		const there = look(directories, r);

		if (there)
			present.push(there);
		else
			missing.push(r);
	}
	return { present, missing };
}

// ---- the environment ----

// A file of the package is named relative to the working directory.
function isLocal(spec) {
	return spec.startsWith('file:');
}

function absolute(requirement) {
	const [name, spec] = split(requirement);

	return isLocal(spec) ? name + '@file:' + path.resolve(spec.slice(5)) : requirement;
}

function digestOf(requirement) {
	const spec = split(requirement)[1];

	if (!isLocal(spec) || !fs.existsSync(spec.slice(5)) || !fs.statSync(spec.slice(5)).isFile())
		return '';
	return crypto.createHash('sha256').update(fs.readFileSync(spec.slice(5))).digest('hex');
}

function environmentName(config) {
	const parts = [config.lock, process.version, process.arch, process.env.NPM_CONFIG_REGISTRY || process.env.npm_config_registry || '',
		config.requirements.map(digestOf)];

	return 'npm-' + crypto.createHash('sha256').update(JSON.stringify(parts)).digest('hex').slice(0, 32);
}

// Of whatever npm will ask, and of a proxy.
function indexHosts() {
	const asked = spawnSync('npm', ['config', 'list', '--json'], { stdio: ['ignore', 'pipe', 'ignore'] });
	const hosts = new Set();
	let config = {};

	try {
		config = JSON.parse(String(asked.stdout));
	} catch (e) {
		throw new Failed('npm config list: ' + e.message);
	}
	for (const name of Object.keys(config).concat(['https_proxy', 'HTTPS_PROXY', 'http_proxy', 'HTTP_PROXY'])) {
		const value = name in config ? config[name] : process.env[name];

		if (/registry$|proxy$/i.test(name) && typeof value === 'string' && /^https?:/.test(value))
			hosts.add(new URL(value).hostname);
	}
	return [...hosts].sort();
}

// They are open when standard input ends.
function ask(hosts) {
	const line = JSON.stringify({ type: 'event', name: 'index_hosts', data: { hosts } }) + '\n';

	fs.writeSync(Number(process.env.FARSTEP_EVENT_FD || 3), line);
	fs.readFileSync(0);
}

function npmInstall(config, where) {
	const argv = ['install', '--prefix', where, '--no-audit', '--no-fund', '--no-update-notifier', '--install-links', '--color=false'];

	if (!programs('npm').length)
		throw new Failed('there is no npm in the sandbox (Debian: npm)');
	if (config.offline)
		argv.push('--offline');	// it would only try until its patience ends
	else if (config.ask && !config.requirements.every((r) => isLocal(split(r)[1])))
		ask(indexHosts());
	argv.push('--', ...config.requirements.map(absolute));
	fs.writeFileSync(path.join(where, 'package.json'), '{"private":true}\n');
	console.log('$ npm ' + argv.join(' '));
	// What it says is no part of the report, because only logs are masked.
	const done = spawnSync('npm', argv, { stdio: ['ignore', 'inherit', process.stdout.fd] });
	if (done.error)
		throw new Failed('npm: ' + done.error.message);
	if (done.status !== 0)
		throw new Failed('exit ' + (done.status === null ? done.signal : done.status), done.status);
}

// The time in which the files below it were written.
function writtenMs(dir) {
	let first = Infinity, last = 0;
	const todo = [dir];

	while (todo.length) {
		const d = todo.pop();

		for (const f of fs.readdirSync(d, { withFileTypes: true })) {
			const p = path.join(d, f.name), t = fs.lstatSync(p).ctimeMs;

			first = Math.min(first, t);
			last = Math.max(last, t);
			if (f.isDirectory() && f.name !== 'node_modules')
				todo.push(p);
		}
	}
	return last ? Math.round((last - first) * 1000) / 1000 : 0;
}

function installed(where) {
	const list = JSON.parse(fs.readFileSync(path.join(where, 'node_modules', '.package-lock.json'), 'utf8')).packages || {};

	return Object.keys(list).sort().map((p) => ({
		package: p.slice(p.lastIndexOf('node_modules/') + 13),
		version: String(list[p].version || ''),
		duration_ms: writtenMs(path.join(where, p)),
	}));
}

function make(config, report, env) {
	const part = fs.mkdtempSync(env + '.');

	try {
		npmInstall(config, part);
		report.installed = installed(part);
		const still = check(config.requirements, [path.join(part, 'node_modules')]).missing;
		if (still.length)
			throw new Failed('npm says that it succeeded, but these are not there: ' + still.join(', '));
		try {
			fs.renameSync(part, env);
		} catch (e) {
			if (!fs.existsSync(env))
				throw e;	// else another session of this worker was faster
		}
	} finally {
		fs.rmSync(part, { recursive: true, force: true });
	}
}

// Finds the environment of these requirements, or makes it.
function provide(config, report) {
	const env = path.join(process.env.FARSTEP_CACHE_DIR, environmentName(config));
	const modules = path.join(env, 'node_modules');

	fs.mkdirSync(process.env.FARSTEP_CACHE_DIR, { recursive: true });
	for (const r of config.requirements)
		sources[split(r)[0]] = split(r)[1];
	const here = check(config.requirements, [modules]);
	if (fs.existsSync(env) && !here.missing.length) {
		Object.assign(report, here, { reused: true });
	} else if (config.install) {
		fs.rmSync(env, { recursive: true, force: true });	// spoilt by a step
		make(config, report, env);
	} else {
		return false;
	}
	report.environment = env;
	report.bin = path.join(modules, '.bin');
	report.env = { NODE_PATH: [modules, process.env.NODE_PATH].filter(Boolean).join(':') };
	return true;
}

function main() {
	const config = JSON.parse(fs.readFileSync(process.env.FARSTEP_CONFIG, 'utf8'));
	const report = { lock: config.lock, path: process.env.PATH || '', reused: false, installed: [] };
	let code = 4;

	try {
		Object.assign(report, check(config.requirements, modulePaths()));
		code = !report.missing.length || provide(config, report) ? 0 : 3;
	} catch (e) {
		report.error = e instanceof Failed ? e.message : String(e);
		report.tool_exit = e instanceof Failed ? e.code : undefined;
	}
	fs.writeFileSync(path.join(process.env.FARSTEP_ARTIFACTS_DIR, 'report.json'), JSON.stringify(report));
	return code;
}

process.exitCode = main();
