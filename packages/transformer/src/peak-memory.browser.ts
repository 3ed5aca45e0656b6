/** Pages are not told what their process takes. */
export function peakRssBytes(): number {
  return 0;
}
