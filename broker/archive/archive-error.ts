/** An archive cannot be made or taken in, for a reason that the message tells to whoever asked for it. */
export class ArchiveError extends Error {
  override readonly name = 'ArchiveError';
}
