/**
 * Field tables in XML, with their types, so that headers survive the way through XMPP:
 *
 * ```
 * <header name='retries' type='int'>3</header>          type: bool int long double string binary timestamp decimal void
 * <header name='x' type='table'> <header …/>… </header>        (names inside)
 * <header name='y' type='array'> <header type='int'>1</header>… </header>      (no names inside)
 * ```
 *
 * `string` is the default; binary is base64, a timestamp the form of XEP-0082, long any integer of 64 bits.
 */
import { Decimal, type FieldTable, type FieldValue, isFieldTable } from '../../broker/fields.ts';
import { type Element, element, isXmlText } from './element.ts';
import { AMQP } from './namespaces.ts';
import { StanzaError } from './stanza-error.ts';

/** Octets of a short string, as names of headers are. */
export const SHORT_STRING_BYTES_MAX = 255;

/** The octets that `text` is, white space aside. Throws StanzaError. */
export function readBase64(text: string): Buffer {
  const digits = text.replace(/[ \t\r\n]/g, '');
  if (digits.length % 4 === 0 && /^[A-Za-z0-9+/]*={0,2}$/.test(digits)) return Buffer.from(digits, 'base64');
  throw new StanzaError('bad-request', 'not base64');
}

/** One `<header>` for each field. */
export function headerElements(table: FieldTable): Element[] {
  return Object.entries(table).map(([name, value]) => headerElement(name, value));
}

function headerElement(name: string | undefined, value: FieldValue): Element {
  const make = (type: string | undefined, ...children: (Element | string)[]): Element =>
    element('header', AMQP, { name, type }, ...children.filter((child) => child !== ''));
  if (value === null) return make('void');
  switch (typeof value) {
    case 'boolean':
      return make('bool', String(value));
    case 'bigint':
      return make('long', String(value));
    case 'number':
      return make(isInt(value) ? 'int' : 'double', Object.is(value, -0) ? '-0' : String(value));
    case 'string':
      return isXmlText(value) ? make(undefined, value) : make('string-base64', Buffer.from(value).toString('base64'));
    default:
      if (value instanceof Uint8Array) return make('binary', Buffer.from(value).toString('base64'));
      if (value instanceof Date) return make('timestamp', value.toISOString().replace('.000Z', 'Z'));
      if (value instanceof Decimal) return make('decimal', `${value.unscaled}e-${value.scale}`);
      if (isFieldTable(value)) return make('table', ...headerElements(value));
      return make('array', ...value.map((item) => headerElement(undefined, item)));
  }
}

function isInt(value: number): boolean {
  return Number.isInteger(value) && Math.abs(value) < 2 ** 31 && !Object.is(value, -0);
}

/** The table that the `<header>` children of `parent` are. Throws StanzaError. */
export function readHeaders(parent: Element): FieldTable {
  const table: Record<string, FieldValue> = Object.create(null);
  for (const header of parent.elements.filter((child) => child.is('header', AMQP))) {
    const { name } = header.attributes;
    if (name === undefined) throw new StanzaError('bad-request', 'a <header> without a name');
    if (Buffer.byteLength(name) > SHORT_STRING_BYTES_MAX) {
      throw new StanzaError('not-acceptable', `the name of a header is longer than ${SHORT_STRING_BYTES_MAX} octets`);
    }
    table[name] = readHeader(header);
  }
  return table;
}

function readHeader(header: Element): FieldValue {
  const { type = 'string' } = header.attributes;
  const { text } = header;
  const wrong = (): never => {
    throw new StanzaError('bad-request', `"${text}" is no value of type ${type}`);
  };
  switch (type) {
    case 'void':
      return null;
    case 'string':
      return text;
    case 'string-base64':
      return readBase64(text).toString();
    case 'bool':
      return text === 'true' || text === '1' ? true : text === 'false' || text === '0' ? false : wrong();
    case 'int':
      return /^-?\d{1,10}$/.test(text) && isInt(Number(text)) ? Number(text) : wrong();
    case 'long':
      return /^-?\d{1,19}$/.test(text) && BigInt.asIntN(64, BigInt(text)) === BigInt(text) ? BigInt(text) : wrong();
    case 'double':
      return text.trim() !== '' && (/^-?(Infinity|NaN)$/.test(text) || Number.isFinite(Number(text)))
        ? Number(text)
        : wrong();
    case 'binary':
      return new Uint8Array(readBase64(text));
    case 'timestamp':
      return Number.isNaN(Date.parse(text)) ? wrong() : new Date(Math.floor(Date.parse(text) / 1000) * 1000);
    case 'decimal': {
      const [, unscaled = '', scale = ''] = /^(-?\d{1,10})e-(\d{1,3})$/.exec(text) ?? [];
      return scale !== '' && isInt(Number(unscaled)) && Number(scale) < 256
        ? new Decimal(Number(scale), Number(unscaled))
        : wrong();
    }
    case 'table':
      return readHeaders(header);
    case 'array':
      return header.elements.filter((child) => child.is('header', AMQP)).map(readHeader);
    default:
      throw new StanzaError('bad-request', `unknown header type "${type}"`);
  }
}
