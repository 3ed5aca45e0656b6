/** How the program ends. Those of signals are 128 + the signal's number, as shells report them. */
export const exitCodes = {
  ok: 0,
  failed: 1,
  usage: 2,
  SIGINT: 130,
  brokenPipe: 141,
  SIGTERM: 143,
} as const;
