/** The version of the package that this code is of; a test holds it to package.json. Data folders say who wrote them. */
export const VERSION = '0.1.0';
