module.exports = { apps: [{ name: 'maps', script: 'programs/echo.js', source_map_support: true }] };
