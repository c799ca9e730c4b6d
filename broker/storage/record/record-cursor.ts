/** Reads what `RecordBuffer` has written. The octets have passed their checksum; garbage throws all the same. */

/** Octets that pass their checksum and still cannot be what Warren has written. */
export class MalformedRecord extends Error {
  constructor(what: string) {
    super(what);
    this.name = 'MalformedRecord';
  }
}

export class RecordCursor {
  octets: Buffer;
  at: number;
  end: number;

  /** Reads `octets[start, end)`. */
  constructor(octets: Buffer, start: number, end: number) {
    this.octets = octets;
    this.at = start;
    this.end = end;
  }

  get isAtEnd(): boolean {
    return this.at >= this.end;
  }

  octet(): number {
    return this.at < this.end ? (this.octets[this.at++] as number) : this.#pastEnd();
  }

  integer(): number {
    let octet = this.octet();
    if (octet < 128) return octet;
    let value = octet & 127;
    let scale = 128;
    do {
      octet = this.octet();
      value += (octet & 127) * scale;
      scale *= 128;
    } while (octet >= 128);
    if (value > Number.MAX_SAFE_INTEGER) throw new MalformedRecord('an integer is too large');
    return value;
  }

  /** The octets of a text or value: where they begin; `at` is where they end. */
  sized(): number {
    return this.take(this.integer());
  }

  /** Moves on by `count` octets and answers where they begin. */
  take(count: number): number {
    const start = this.at;
    this.at += count;
    if (this.at > this.end) this.#pastEnd();
    return start;
  }

  text(): string {
    const start = this.sized();
    return this.octets.toString('utf8', start, this.at);
  }

  #pastEnd(): never {
    throw new MalformedRecord('an operation is cut off');
  }
}
