/** Lower case, without control characters: answers are compared in this form. */
function plain(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, ' ').toLowerCase();
}

/** Mean over references of whether the text has it. No reference, no point. */
export function containedShare(references: readonly string[], text: string): number {
  if (references.length === 0) return 0;
  const searched = plain(text);
  return references.filter((reference) => searched.includes(plain(reference))).length / references.length;
}

/** Whether the first whole number of the text is the reference. */
export function firstInteger(reference: string, text: string): number {
  return /\d+/.exec(text)?.[0] === reference ? 1 : 0;
}
