// Runs one step of a script: prints its name and duration; a failing step names its command.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url));

/** Totals of every test runner that went through `tests`. */
export const totals = { passed: 0, failed: 0 };

/** Runs a command; exits the process when it fails, unless `allowFailure`. */
export function step(name, command, args, { env = {}, cwd = root, capture = false, allowFailure = false } = {}) {
  const started = Date.now();
  console.log(`\n▶ ${name}`);
  const result = spawnSync(command, args, {
    cwd,
    env: { ...process.env, ...env },
    stdio: capture ? ['ignore', 'pipe', 'inherit'] : ['ignore', 'inherit', 'inherit'],
    encoding: 'utf8',
    maxBuffer: 256 * 2 ** 20,
  });
  if (capture && result.stdout) process.stdout.write(result.stdout);
  const seconds = ((Date.now() - started) / 1000).toFixed(1);
  if (result.status !== 0 && !allowFailure) {
    console.error(
      `✖ ${name} failed after ${seconds} s: ${command} ${args.join(' ')}${result.error ? ` (${result.error.message})` : ''}`,
    );
    finish(1);
  }
  console.log(`✔ ${name} (${seconds} s)`);
  return { status: result.status ?? 1, output: result.stdout ?? '' };
}

/** Adds the totals of a vitest or cargo run, read from what it printed. */
export function count(output) {
  const plain = output.replace(/\u001b\[[0-9;]*m/g, '');
  for (const line of plain.split('\n')) {
    const vitest = /^\s*Tests\s+(?:(\d+) failed \| )?(?:(\d+) passed)?/.exec(line);
    if (vitest) {
      totals.failed += Number(vitest[1] ?? 0);
      totals.passed += Number(vitest[2] ?? 0);
    }
    const cargo = /^test result: \w+\. (\d+) passed; (\d+) failed/.exec(line);
    if (cargo) {
      totals.passed += Number(cargo[1]);
      totals.failed += Number(cargo[2]);
    }
  }
}

/** Prints the closing line and ends. */
export function finish(code) {
  const failed = code === 0 ? totals.failed : Math.max(totals.failed, 1);
  console.log(`\n${totals.passed} passed, ${failed} failed`);
  process.exit(failed > 0 ? 1 : 0);
}
