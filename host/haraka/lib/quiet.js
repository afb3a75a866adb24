'use strict'

// Haraka prints lines of a header that it does not understand to its standard output, and `X-Auth-Key : …`, with a blank
// before the colon, is one of them. No key stands in a log: what follows the name of a key field is left out.

const LOGGER = /[\\/]haraka-email-message[\\/]lib[\\/]logger\.js$/
const HUSHED = Symbol('addrauth')

exports.redact = function (text) {
  return String(text).replace(/(x-(?:new-)?auth-key\s*:)[\s\S]*/i, '$1 (left out)')
}

// Wraps the logger of Haraka's header parser, wherever it is loaded from.
exports.hush = function (cache) {
  for (const [path, module] of Object.entries(cache)) {
    if (!LOGGER.test(path) || !module?.exports || module.exports[HUSHED]) continue
    const logger = module.exports
    logger[HUSHED] = true
    for (const level of ['lognotice', 'logwarn', 'logerror']) {
      const log = logger[level]
      if (typeof log === 'function') logger[level] = (...texts) => log.call(logger, ...texts.map(exports.redact))
    }
  }
}
