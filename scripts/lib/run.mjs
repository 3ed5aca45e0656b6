// Runs the steps of a script: prints the name and duration of each, adds up what the test runners counted, names the command of a step that failed.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { projectOf, shrunken } from './minimums.mjs';

export const root = fileURLToPath(new URL('../..', import.meta.url));

/** Path of a tool of the root package. */
export const bin = (name) => join(root, 'node_modules/.bin', name);

/** Cases that ran, over all runners. A step that fails without failing cases (a lint error, a crash) counts as one failure. */
const totals = { passed: 0, failed: 0 };
const failures = [];

/** Runs a command with its output passed through. Rejects nothing: the caller reads `status`. `onLine` sees each line of stdout. */
function execute(command, args, { env, cwd, onLine }) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd,
      env: { ...process.env, ...env },
      stdio: ['ignore', onLine ? 'pipe' : 'inherit', 'inherit'],
    });
    let rest = '';
    child.stdout?.on('data', (chunk) => {
      process.stdout.write(chunk);
      const lines = (rest + chunk.toString('utf8')).split('\n');
      rest = lines.pop() ?? '';
      lines.forEach(onLine);
    });
    child.on('error', (error) => resolve({ status: 1, reason: ` (${error.message})` }));
    child.on('close', (code, signal) => resolve({ status: code ?? 1, reason: signal ? ` (${signal})` : '' }));
  });
}

/** Runs one step; a step that fails ends the script, as everything after it depends on it. */
export async function step(name, command, args, options = {}) {
  if (!(await check(name, command, args, options))) process.exit(1);
}

/** Runs one step whose failure is remembered while the others still run. Returns whether it succeeded. */
export async function check(name, command, args, { env = {}, cwd = root, onLine, casesFailed = () => 0 } = {}) {
  const started = performance.now();
  console.log(`\n▶ ${name}`);
  const { status, reason } = await execute(command, args, { env, cwd, onLine });
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  if (status === 0) {
    console.log(`✔ ${name} (${seconds} s)`);
    return true;
  }
  const setting = Object.entries(env).map(([key, value]) => `${key}=${value} `);
  const place = cwd === root ? '' : ` in ${cwd}`;
  const failure = `✖ ${name} failed after ${seconds} s: ${setting.join('')}${command} ${args.join(' ')}${place}${reason}`;
  console.error(failure);
  failures.push(failure);
  if (casesFailed() === 0) totals.failed += 1;
  return false;
}

/** Remembers a failure that is no step's. */
export function fail(message) {
  const failure = `✖ ${message}`;
  console.error(failure);
  failures.push(failure);
  totals.failed += 1;
}

/** Holds what ran against the committed minimums of a tier; a shortfall is a failure like any other. */
function holdToMinimums(tier, counts) {
  for (const complaint of shrunken(tier, counts)) fail(complaint);
}

/** A cargo test run; its cases are read from the summary line of every test binary. `tier`: whose minimum it must reach. */
export async function cargoTest(name, args, { tier, ...options } = {}) {
  let [passed, failed] = [0, 0];
  const onLine = (line) => {
    const summary = /^test result: \S+ (\d+) passed; (\d+) failed/.exec(line);
    if (!summary) return;
    totals.passed += Number(summary[1]);
    totals.failed += Number(summary[2]);
    passed += Number(summary[1]);
    failed += Number(summary[2]);
  };
  const succeeded = await check(name, 'cargo', args, { ...options, onLine, casesFailed: () => failed });
  if (tier) holdToMinimums(tier, { cargo: passed });
  return succeeded;
}

/** Passed tests of a vitest report by project; every project has a count. */
function passedByProject({ testResults }) {
  const counts = { node: 0, browser: 0, dist: 0 };
  for (const { name, assertionResults } of testResults) {
    counts[projectOf(name)] += assertionResults.filter(({ status }) => status === 'passed').length;
  }
  return counts;
}

/** A vitest run; its cases are read from the report that it writes. `tier`: whose minimums it must reach, for a run of everything. */
export async function vitest(name, args, { tier, ...options } = {}) {
  const report = join(root, '.cache/reports', `${name.replaceAll(/[^a-z0-9]+/gi, '-')}.json`);
  mkdirSync(dirname(report), { recursive: true });
  rmSync(report, { force: true });
  let failed = 0;
  const read = () => {
    // Without a report vitest ended before its tests did, and the step itself has failed.
    if (!existsSync(report)) return 0;
    const results = JSON.parse(readFileSync(report, 'utf8'));
    totals.passed += results.numPassedTests;
    totals.failed += failed = results.numFailedTests;
    if (tier) holdToMinimums(tier, passedByProject(results));
    return failed;
  };
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
  const succeeded = await check(name, bin('vitest'), ['run', ...reporters, ...args], { ...options, casesFailed: read });
  if (succeeded) read();
  return succeeded;
}

/** At the end of the script, however it ends: what failed, then the totals, and an exit code that agrees with them. */
export function reportTotalsAtExit() {
  process.on('exit', (code) => {
    if (code !== 0 && totals.failed === 0) totals.failed = 1;
    if (totals.failed > 0) process.exitCode = 1;
    if (failures.length > 0) console.error(`\n${failures.join('\n')}`);
    console.log(`\n${totals.passed} passed, ${totals.failed} failed`);
  });
}
