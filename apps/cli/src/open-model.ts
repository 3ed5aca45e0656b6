import { resolveModel } from '@filigree/checkpoint';
import { loadModel, type LoadModelOptions, type Model } from '@filigree/transformer';
import { openBackend } from './backend.js';
import type { Context } from './context.js';
import type { ModelOptions } from './options/model-options.js';
import { downloadProgress } from './progress.js';

/** Finds or downloads the model, loads it, runs `use`, and releases everything, however it ends. */
export async function withModel<T>(
  options: ModelOptions & Pick<LoadModelOptions, 'activations'>,
  { io, signal, note, progress }: Pick<Context, 'io' | 'signal' | 'note' | 'progress'>,
  use: (model: Model) => Promise<T>,
): Promise<T> {
  try {
    const { path } = await resolveModel(options.model, { signal, onProgress: downloadProgress(progress) });
    progress.stop();
    const backend = await openBackend(options, { io, note, signal });
    try {
      const { context, kvType, activations } = options;
      const model = await loadModel(path, {
        backend,
        signal,
        onProgress: ({ doneBytes, totalBytes }) => {
          progress.update('load', doneBytes, totalBytes);
        },
        ...(context === undefined ? {} : { context }),
        ...(kvType === undefined ? {} : { kvType }),
        ...(activations === undefined ? {} : { activations }),
      });
      progress.stop();
      try {
        return await use(model);
      } finally {
        model.dispose();
      }
    } finally {
      backend.dispose();
    }
  } finally {
    progress.stop();
  }
}
