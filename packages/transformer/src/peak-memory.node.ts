/** Peak resident bytes of the process. */
export function peakRssBytes(): number {
  return process.resourceUsage().maxRSS * 1024;
}
