import haraka from '@haraka/eslint-config'

export default [...haraka]
