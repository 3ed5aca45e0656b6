import { blobSource, httpSource, hubUrl, knownModels, opfsCachedSource, type ByteSource } from '@filigree/checkpoint';

/** Where a model comes from. `keep: false` reads an address in parts and stores nothing. */
export type ModelChoice =
  { readonly kind: 'file'; readonly file: File } | { readonly kind: 'address'; readonly url: string; readonly keep: boolean };

export interface KnownAddress {
  readonly url: string;
  readonly title: string;
  readonly bytes: number;
}

/** Models with a name, at their addresses on the Hub; the first is what the page offers. */
export const knownAddresses: readonly KnownAddress[] = knownModels.map(({ hub, title, bytes }) => ({
  url: hubUrl(hub),
  title,
  bytes,
}));

export function nameOf(choice: ModelChoice): string {
  if (choice.kind === 'file') return choice.file.name;
  const known = knownAddresses.find(({ url }) => url === choice.url);
  const path = new URL(choice.url, location.href).pathname;
  return known?.title ?? decodeURIComponent(path.slice(path.lastIndexOf('/') + 1) || path);
}

export interface OpenOptions {
  readonly signal: AbortSignal;
  readonly onProgress: (doneBytes: number, totalBytes: number | undefined) => void;
}

/** The bytes of a choice; those of an address come from the browser's storage once they are there. */
export async function openChoice(choice: ModelChoice, { signal, onProgress }: OpenOptions): Promise<ByteSource> {
  if (choice.kind === 'file') return blobSource(choice.file, choice.file.name);
  if (!choice.keep) return httpSource(choice.url, { signal });
  return opfsCachedSource(choice.url, {
    signal,
    onProgress: ({ doneBytes, totalBytes }) => {
      onProgress(doneBytes, totalBytes);
    },
  });
}
