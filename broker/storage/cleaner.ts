/** Reclaims the space of settled messages. */
export class Cleaner {
  onCommitted(): void {}
  stop(): void {}
}
