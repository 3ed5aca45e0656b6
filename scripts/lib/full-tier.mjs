// What `npm run test:full` adds: ten times the cases, real models, memory checking of the Rust code, every CPU path end to end, later Nodes.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { realModels } from './models.mjs';
import { bin, cargoTest, check, root, vitest } from './run.mjs';

const native = join(root, 'kernels/native');

/** Paths below the best one of this machine; the best one is what every other test runs on. */
function lowerCpuPaths() {
  const paths = ['scalar'];
  const flags = existsSync('/proc/cpuinfo') ? readFileSync('/proc/cpuinfo', 'utf8') : '';
  if (/\bavx512_vnni\b/.test(flags) && /\bavx512vbmi\b/.test(flags)) paths.push('avx2');
  return paths;
}

/** The Rust target of this machine, which AddressSanitizer wants named; undefined where no nightly is installed. */
function nightlyHost() {
  const version = spawnSync('cargo', ['+nightly', '-vV'], { encoding: 'utf8' });
  return version.status === 0 ? /^host: (.*)$/m.exec(version.stdout)?.[1] : undefined;
}

async function addressSanitizer() {
  const host = nightlyHost();
  if (!host) {
    console.log('• no nightly Rust (rustup toolchain install nightly): the AddressSanitizer run is left out');
    return;
  }
  // Its own target directory: the flag changes every object file.
  const env = {
    RUSTFLAGS: '-Zsanitizer=address',
    CARGO_TARGET_DIR: join(native, 'target/asan'),
    RUST_BACKTRACE: '1',
    FILIGREE_TEST_TIER: 'full',
  };
  const args = ['+nightly', 'test', '--locked', '-p', 'filigree-kernels', '--lib', '--tests', '--target', host];
  await cargoTest('cargo test under AddressSanitizer', args, { cwd: native, env });
}

/** Tests that run every CPU path by themselves, or none: a run on a lower path would only repeat them. */
const independentOfPath = ['packages/backend-webgpu/**', '**/conformance.test.ts', '**/invariance.test.ts'];

/** Runs the long tier. `rust`: whether the native backend was built. */
export async function fullTier({ rust }) {
  const models = await realModels();
  const env = { FILIGREE_TEST_TIER: 'full', ...models };
  await vitest('tests of the full tier', [], { env, tier: 'full' });
  await check('API documentation (typedoc)', bin('typedoc'), ['--logLevel', 'Warn']);
  if (!rust) return;
  await addressSanitizer();
  for (const path of lowerCpuPaths()) {
    const left = independentOfPath.flatMap((pattern) => ['--exclude', pattern]);
    await vitest(`native tests on the ${path} path`, ['--project', 'node', 'packages', ...left], {
      env: { ...models, FILIGREE_CPU: path },
    });
  }
}
