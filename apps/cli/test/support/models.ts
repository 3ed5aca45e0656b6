import { tinyModel, type TinyModelOptions } from '@filigree/testing';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A folder for one test file, with tiny models in it. */
export class ModelFolder {
  readonly path = mkdtempSync(join(tmpdir(), 'filigree-cli-'));

  async model(name = 'tiny.gguf', options: TinyModelOptions = {}): Promise<string> {
    return this.file(name, await tinyModel(options));
  }

  file(name: string, content: Uint8Array | string): string {
    const path = join(this.path, name);
    writeFileSync(path, content);
    return path;
  }

  remove(): void {
    rmSync(this.path, { recursive: true });
  }
}
