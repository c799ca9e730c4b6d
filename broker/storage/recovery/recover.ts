/**
 * Brings back what the log holds. The newest segment that begins with an intact checkpoint says everything but the
 * contents of messages: it is read first. Then all segments are read for their messages, and every checksum is verified.
 *
 * What is damage and what is not. The newest segment is read to its end, and all in it counts: a place in it without an
 * intact record is damage when an intact record follows, or when the mark says that the log was on disk beyond it; at the
 * end of the file it is otherwise the rest of a commit that nobody was told of. Of older segments only messages count: a
 * place that cannot be read is damage when a message is missing. A file that is newer than the newest segment is the rest
 * of a first commit, unless something in it is intact or the mark knows it. A file that is not of this log is damage too:
 * nobody but its owner knows what it is for.
 *
 * What a damaged record of the newest segment said besides messages is taken from the second copy (log/state-copy.ts),
 * its checkpoint too, so that damage at one place costs no definition. Damage of the copy alone costs nothing, and is
 * mended by beginning a new segment.
 */
import { randomBytes } from 'node:crypto';
import type { StoreEvent } from '../../store.ts';
import type { Files } from '../folder/files.ts';
import { LogState } from '../log/log-state.ts';
import { decodeMark, isPartlyDamaged, MARK_FILE } from '../log/mark.ts';
import { type Damage, DamagedPlace } from './damage.ts';
import { HolderNames } from './holder-names.ts';
import { type LogFile, LogReader } from './log-files.ts';
import { MessageScan } from './message-scan.ts';
import { type MarkFound, NewestSegments, type TornFile } from './newest-segments.ts';
import { FoundCustodies, Recovery } from './recovery.ts';

/** What the log holds, and what is to be done next. */
export interface RecoveredLog {
  readonly state: LogState;
  readonly recovery: Recovery;
  readonly damages: readonly Damage[];
  /** Worth a line in the log. */
  readonly notices: readonly StoreEvent[];
  readonly nextSegment: number;
  readonly lastSequence: number;
  /** Files that the log does not need. */
  readonly leftovers: readonly string[];
  /** Files beside the log's that are not of it: to be moved aside before anything is written, never removed. */
  readonly strangers: readonly string[];
  /**
   * What was found and may not be on disk: written by a process that was killed before it knew. To be written again before
   * anything rests on it, for a sync that failed then would succeed now without doing anything.
   */
  readonly unsynced: readonly UnsyncedOctets[];
  /** Files that end with a commit of which nobody was told, and how far they are intact. */
  readonly torn: readonly TornFile[];
}

/** Octets `[from, to)` of a file. */
export interface UnsyncedOctets {
  readonly path: string;
  readonly from: number;
  readonly to: number;
}

export interface LogRecoveryOptions {
  readonly files: Files;
  /** In rising order. */
  readonly logFiles: readonly LogFile[];
  /** The octets of the file; undefined when there is none. */
  readonly mark: Buffer | undefined;
  /** The log may have been written by a version that made no second copies. */
  readonly isOlder: boolean;
  /** The file of a segment. */
  readonly pathOf: (id: number) => string;
}

/** Reads everything. Throws StoreError when a file cannot be read at all; what is damaged is in the answer. */
export async function recoverLog(options: LogRecoveryOptions): Promise<RecoveredLog> {
  const { files, logFiles, isOlder, pathOf } = options;
  const segmentFiles = logFiles.filter(({ isCopy }) => !isCopy);
  const copyFiles = logFiles.filter(({ isCopy }) => isCopy);
  const said = options.mark && decodeMark(options.mark);
  const reader = await LogReader.of(files, logFiles, said);
  const state = new LogState(reader.seal ?? randomBytes(8).readBigUInt64LE());
  const markFound = judgeMark(options, reader.seal);
  const { mark, fault } = markFound;
  const places: DamagedPlace[] = [];
  const notices: StoreEvent[] = [];
  if (fault !== undefined) {
    const text = `the file ${MARK_FILE}, which says how far the log is on disk, is ${fault}; it is made anew`;
    notices.push({ type: 'notice', text });
  }
  const newest = new NewestSegments(reader, state, markFound, places, notices, pathOf);
  await newest.read(segmentFiles, copyFiles);
  const names = new HolderNames();
  names.learn(state.definitions.all());
  names.learn(newest.former);
  const found = new FoundCustodies();
  await new MessageScan(reader, segmentFiles, found, places, pathOf).read(state.segments.values());
  for (const { wreck } of places) names.learn(wreck?.definitions ?? []);
  const { leftovers, strangers } = sortOut({ reader, state, newest, logFiles, places });
  const last = segmentFiles.findLast(({ path }) => !strangers.includes(path));
  /** The log ends where an orderly end has left it. */
  const isClean =
    mark?.isClosed === true &&
    newest.torn.length === 0 &&
    last?.id === mark.segment &&
    mark.sequence === newest.lastSequence;
  for (const holder of state.holders.values()) {
    if (!isClean) holder.returnedThrough = Math.max(holder.returnedThrough, holder.deliveredThrough);
  }
  state.lastHolder = Math.max(state.lastHolder, found.lastHolder);
  const isDamaged = places.length > 0;
  const isCopied = newest.isCopied(isClean, isOlder);
  // What is damaged has been given up here only; the log must say so too, or the next start would refuse it again.
  const isChanged = (!isClean && segmentFiles.length > 0) || isDamaged || !isCopied;
  const ours = logFiles.filter(({ path }) => !strangers.includes(path));
  return {
    state,
    recovery: new Recovery(found, state, names, { isChanged, isDamaged }),
    damages: places.map((place) => place.damage(names)),
    notices,
    nextSegment: Math.max(mark?.segment ?? 0, ...ours.map(({ id }) => id)) + 1,
    lastSequence: Math.max(newest.lastSequence, mark?.sequence ?? 0),
    leftovers,
    strangers,
    unsynced: isClean
      ? []
      : newest.files
          .filter(({ path }) => !strangers.includes(path))
          .map(({ id, path }) => ({
            path,
            from: mark?.segment === id ? mark.bytes : 0,
            to: newest.intactBytes.get(id) ?? 0,
          })),
    torn: newest.torn,
  };
}

/** What the mark is worth; `seal`: that of the files, if they have one. */
function judgeMark({ mark: octets, logFiles }: LogRecoveryOptions, seal: bigint | undefined): MarkFound {
  const hasLog = logFiles.some(({ bytes }) => bytes > 0);
  const mark = octets && decodeMark(octets);
  if (octets === undefined) return { mark, fault: hasLog ? 'missing' : undefined };
  if (mark === undefined) return { mark, fault: hasLog ? 'damaged' : undefined };
  if (seal !== undefined && mark.seal !== seal) return { mark: undefined, fault: 'that of another data folder' };
  return { mark, fault: hasLog && isPartlyDamaged(octets) ? 'damaged in part' : undefined };
}

/** Which files are not needed any more, and which are not of this log. */
function sortOut(log: {
  readonly reader: LogReader;
  readonly state: LogState;
  readonly newest: NewestSegments;
  readonly logFiles: readonly LogFile[];
  readonly places: DamagedPlace[];
}): { readonly leftovers: readonly string[]; readonly strangers: readonly string[] } {
  const { reader, state, newest, places } = log;
  for (const segment of [...state.segments.values()]) state.dropIfEmpty(segment);
  const leftovers = new Set(newest.leftovers);
  const strangers = new Set(newest.strangers);
  for (const file of log.logFiles) {
    const { id, path, bytes, isCopy } = file;
    if (strangers.has(path) || (!isCopy && state.segments.has(id))) continue;
    const isRead = !isCopy && newest.files.some((each) => each.path === path);
    if (isRead || bytes === 0 || reader.originOf(file) !== 'foreign' || places.some((place) => place.path === path)) {
      leftovers.add(path);
      continue;
    }
    strangers.add(path);
    if (isCopy) continue;
    const text = 'it is no part of this log: it has come from elsewhere, or was not needed any more and is damaged';
    places.push(new DamagedPlace(file, { offset: undefined }, text));
  }
  return { leftovers: [...leftovers], strangers: [...strangers] };
}
