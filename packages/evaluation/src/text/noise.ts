/** A paragraph of neutral sentences that is repeated as the plainest filler there is: its keys cluster. */
export const noise: readonly string[] = /* @__PURE__ */ Object.freeze([
  'The field is wide.',
  'The path is long.',
  'The air is still.',
  'On we walk.',
  'Nothing has changed since the last time.',
]);
