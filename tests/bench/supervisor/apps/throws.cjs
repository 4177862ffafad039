throw new Error('this release is broken');
