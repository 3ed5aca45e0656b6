/**
 * Names of all the files of a GGUF model that was cut into several, `NAME-00001-of-00003.gguf` and so on, in order; just the name
 * itself when it is not of that form. `name` may be that of any of the files.
 */
export function ggufShardNames(name: string): string[] {
  const match = /^(.*)-(\d{5})-of-(\d{5})\.gguf$/.exec(name);
  if (!match) return [name];
  const [, stem, part, of] = match;
  const count = Number(of);
  if (Number(part) < 1 || Number(part) > count) return [name];
  return Array.from({ length: count }, (_, index) => `${stem}-${String(index + 1).padStart(5, '0')}-of-${of}.gguf`);
}
