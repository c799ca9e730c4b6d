/** The log that gateways write to: one line an event, with fields. The composition root decides where it goes. */

/** Fields first, then the sentence, as pino has it. */
type LogMethod = (fields: object, message: string) => void;

export interface Log {
  readonly error: LogMethod;
  readonly warn: LogMethod;
  readonly info: LogMethod;
  readonly debug: LogMethod;
}

const nothing: LogMethod = () => {};

/** Says nothing; for tests and for programs that want none. */
export const SILENT_LOG: Log = { error: nothing, warn: nothing, info: nothing, debug: nothing };
