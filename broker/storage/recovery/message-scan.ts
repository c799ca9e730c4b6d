/**
 * Reads all segments for the messages that wait, and verifies every checksum. Of older segments only messages count: a
 * place that cannot be read is damage when a message is missing.
 */
import type { Segment } from '../log/segment.ts';
import { MessageCursor } from '../record/message-operations.ts';
import { DamagedPlace } from './damage.ts';
import type { LogFile, LogReader, Region } from './log-files.ts';
import type { FoundCustodies } from './recovery.ts';
import { Wreck } from './wreck.ts';

/** Most octets of a damaged record that are looked through for what was in it. */
const WRECK_BYTES_MAX = 64 * 1024 * 1024;

/** Damaged places that are looked into. */
const WRECKS_MAX = 100;

export class MessageScan {
  readonly #reader: LogReader;
  readonly #logFiles: readonly LogFile[];
  readonly #found: FoundCustodies;
  readonly #places: DamagedPlace[];
  readonly #pathOf: (id: number) => string;
  #wrecks = 0;
  /** Acks that a damaged place seems to have held: of which segment, slots and place. */
  readonly #suspects = new Map<number, Map<number, DamagedPlace>>();

  /** What is found goes to `found`; `places` is added to. */
  constructor(
    reader: LogReader,
    logFiles: readonly LogFile[],
    found: FoundCustodies,
    places: DamagedPlace[],
    pathOf: (id: number) => string,
  ) {
    this.#reader = reader;
    this.#logFiles = logFiles;
    this.#found = found;
    this.#places = places;
    this.#pathOf = pathOf;
  }

  /**
   * Finds the live messages of `segments`. Those that cannot be found are settled, and reported. Throws StoreError when a
   * file cannot be read.
   */
  async read(segments: Iterable<Segment>): Promise<void> {
    const replayed = [...this.#places];
    for (const place of replayed) await this.#lookInto(place);
    for (const segment of [...segments].sort((a, b) => a.id - b.id)) {
      for (const place of replayed) this.#suspect(segment, place);
      await this.#readSegment(segment);
    }
    for (const place of this.#places) if (place.wreck === undefined) await this.#lookInto(place);
  }

  /** What can still be made out at a damaged place. */
  async #lookInto(place: DamagedPlace): Promise<void> {
    const { segment, offset, end, header, firstSlot } = place;
    const file = this.#logFiles.find(({ id }) => id === segment);
    if (file === undefined || offset === undefined || !place.isReadable || ++this.#wrecks > WRECKS_MAX) return;
    const octets = await this.#reader.read(file, offset, Math.min(end, offset + WRECK_BYTES_MAX));
    place.wreck = new Wreck(octets, header, firstSlot);
  }

  /** The acks that a damaged place seems to have held are to be looked for: their messages say of which queue they are. */
  #suspect({ id, slots }: Segment, place: DamagedPlace): void {
    for (const { segment, slot, count } of place.wreck?.settled ?? []) {
      if (segment !== id) continue;
      const suspects = this.#suspects.get(id) ?? new Map<number, DamagedPlace>();
      this.#suspects.set(id, suspects);
      for (let each = slot; each < Math.min(slots.count, slot + count); each++) suspects.set(each, place);
    }
  }

  async #readSegment(segment: Segment): Promise<void> {
    const { slots } = segment;
    if (slots.live === 0) return;
    const file = this.#logFiles.find(({ id }) => id === segment.id);
    if (file === undefined) {
      const missing = { id: segment.id, path: this.#pathOf(segment.id), bytes: 0, isCopy: false };
      this.#lose(segment, missing, 0, slots.count, [], 'the file is missing');
      return;
    }
    let next = 0;
    let bad: Region[] = [];
    await this.#reader.scan(
      { ...file, bytes: Math.min(file.bytes, segment.bytes) },
      (header, offset, octets, payloadStart) => {
        if (header.slotCount === 0) return;
        if (header.firstSlot > next)
          this.#lose(segment, file, next, header.firstSlot, bad, 'this is not what was written');
        if (next === 0 || header.firstSlot >= next) segment.indexRecord(offset, header.firstSlot);
        next = header.firstSlot + header.slotCount;
        bad = [];
        const start = payloadStart + header.stateBytes;
        const end = payloadStart + header.payloadBytes;
        try {
          this.#takeMessages(segment, new MessageCursor(octets, start, end, header.firstSlot), next);
        } catch (error) {
          const text = `an intact record makes no sense (${error instanceof Error ? error.message : error})`;
          this.#lose(segment, file, header.firstSlot, next, [{ offset, end: offset, header }], text);
        }
      },
      (region) => bad.push(region),
    );
    if (next >= slots.count) return;
    const isCut = file.bytes < segment.bytes;
    const cut = isCut ? `the file ends at octet ${file.bytes}` : 'this is not what was written';
    const at = bad.length > 0 ? bad : [{ offset: file.bytes, end: file.bytes, header: undefined }];
    this.#lose(segment, file, next, slots.count, at, cut);
  }

  #takeMessages(segment: Segment, cursor: MessageCursor, slotEnd: number): void {
    const { slots, amendments } = segment;
    const suspects = this.#suspects.get(segment.id);
    let expected = cursor.slotEnd;
    while (cursor.nextMessage()) {
      const bytes = (cursor.propertyBytes + cursor.bodyBytes) / Math.max(1, cursor.custodyCount);
      while (cursor.nextCustody()) {
        const { slot, survives } = cursor;
        while (expected < slot) slots.settle(expected++);
        expected = slot + 1;
        if (suspects !== undefined) suspects.get(slot)?.countAck(cursor.holder);
        if (!slots.isLive(slot)) continue;
        slots.setSize(slot, bytes);
        if (survives) this.#found.add(segment, cursor, amendments?.get(slot));
        else slots.settle(slot);
      }
    }
    while (expected < slotEnd) slots.settle(expected++);
  }

  /**
   * Live custodies among the slots `[from, to)`, which must have been at `regions`, cannot be found: if there are any, that
   * is damage.
   */
  #lose(segment: Segment, file: LogFile, from: number, to: number, regions: readonly Region[], text: string): void {
    const { slots } = segment;
    const lost: number[] = [];
    for (let slot = from; slot < to; slot++) if (slots.settle(slot)) lost.push(slot);
    if (lost.length === 0) return;
    // Where all counts, every place has been reported.
    if (this.#places.some(({ path, lostCount }) => path === file.path && lostCount === undefined)) return;
    for (const [index, region] of regions.entries()) {
      const first = index === 0 ? from : firstSlotOf(regions, index, to);
      const end = index === regions.length - 1 ? to : firstSlotOf(regions, index + 1, to);
      const here = lost.filter((slot) => slot >= first && slot < end);
      if (here.length > 0) this.#places.push(lossAt(file, region, text, first, here));
    }
    if (regions.length === 0) this.#places.push(lossAt(file, { offset: undefined }, text, from, lost));
  }
}

/** The slot at which a place in a file begins, as far as headers tell: those without one belong to the place before. */
function firstSlotOf(regions: readonly Region[], index: number, otherwise: number): number {
  return regions.slice(index).find(({ header }) => header !== undefined)?.header?.firstSlot ?? otherwise;
}

function lossAt(
  file: LogFile,
  region: { readonly offset: number | undefined; readonly end?: number; readonly header?: Region['header'] },
  text: string,
  firstSlot: number,
  lost: readonly number[],
): DamagedPlace {
  const place = new DamagedPlace(file, region, text);
  place.firstSlot = firstSlot;
  place.lostCount = lost.length;
  if (place.isReadable) place.lost = new Set(lost);
  return place;
}
