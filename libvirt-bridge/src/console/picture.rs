//! Pictures of screens: PPM, as QEMU makes it, or PNG, made smaller and written as PNG.

use archipel_contract::domain::Image;

/// The largest file that is read: 8K, and more than any screen of QEMU.
pub(super) const FILE_LIMIT: usize = 128 << 20;
/// The most pixels on a side.
const SIDE: u32 = 16384;

/// Rows of red, green and blue.
pub(super) struct Shot {
    width: u32,
    height: u32,
    pixels: Vec<u8>,
}

/// Reads a picture in one of the two forms.
pub(super) fn read(file: &[u8]) -> Result<Shot, String> {
    if file.starts_with(b"P6") { ppm(file) } else { png(file) }
}

fn sound(width: u32, height: u32, pixels: Vec<u8>) -> Result<Shot, String> {
    let expected = (width as usize).checked_mul(height as usize).and_then(|n| n.checked_mul(3));
    if width == 0 || height == 0 || width > SIDE || height > SIDE || expected != Some(pixels.len()) {
        return Err(format!("{width} x {height} pixels in {} bytes", pixels.len()));
    }
    Ok(Shot { width, height, pixels })
}

fn ppm(file: &[u8]) -> Result<Shot, String> {
    let (mut at, mut numbers) = (2, Vec::new());
    while numbers.len() < 3 {
        match file.get(at) {
            Some(b'#') => at += file[at..].iter().position(|b| *b == b'\n').ok_or("a comment without an end")?,
            Some(b) if b.is_ascii_whitespace() => at += 1,
            Some(b) if b.is_ascii_digit() => {
                let length = file[at..].iter().take_while(|b| b.is_ascii_digit()).count();
                let text = String::from_utf8_lossy(&file[at..at + length]);
                numbers.push(text.parse::<u32>().map_err(|e| e.to_string())?);
                at += length;
            }
            _ => return Err("no head".to_owned()),
        }
    }
    if numbers[2] != 255 {
        return Err(format!("{} shades", numbers[2]));
    }
    let pixels = file.get(at + 1..).ok_or("no pixels")?;
    sound(numbers[0], numbers[1], pixels.to_vec())
}

fn png(file: &[u8]) -> Result<Shot, String> {
    let mut decoder = png::Decoder::new(std::io::Cursor::new(file));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(|e| e.to_string())?;
    let size = reader.output_buffer_size().filter(|n| *n <= FILE_LIMIT).ok_or("it is too large")?;
    let mut bytes = vec![0; size];
    let info = reader.next_frame(&mut bytes).map_err(|e| e.to_string())?;
    bytes.truncate(info.buffer_size());
    let per_pixel = info.color_type.samples();
    let pixels = bytes.chunks_exact(per_pixel).flat_map(|p| if per_pixel < 3 { [p[0]; 3] } else { [p[0], p[1], p[2]] }).collect();
    sound(info.width, info.height, pixels)
}

impl Shot {
    /// As PNG, at most so wide, and narrower until the file has at most so many bytes.
    pub(super) fn fitting(&self, width: u32, limit: usize) -> Result<Image, String> {
        let mut width = width.clamp(1, self.width);
        loop {
            let small = self.scaled(width);
            let png = small.written().map_err(|e| e.to_string())?;
            if png.len() <= limit || width <= 16 {
                return Ok(Image { size: (small.width, small.height), png });
            }
            width = width * 3 / 4;
        }
    }

    /// Each pixel is the mean of those it stands for.
    fn scaled(&self, width: u32) -> Shot {
        let height = (u64::from(self.height) * u64::from(width) / u64::from(self.width)).max(1) as u32;
        let mut pixels = Vec::with_capacity(width as usize * height as usize * 3);
        let span = |n: u32, of: u32, whole: u32| {
            let from = u64::from(n) * u64::from(whole) / u64::from(of);
            let to = (u64::from(n) + 1) * u64::from(whole) / u64::from(of);
            from as usize..(to.max(from + 1)) as usize
        };
        for y in 0..height {
            let rows = span(y, height, self.height);
            for x in 0..width {
                let columns = span(x, width, self.width);
                let (mut sums, mut count) = ([0u32; 3], 0u32);
                for row in rows.clone() {
                    for column in columns.clone() {
                        let at = (row * self.width as usize + column) * 3;
                        for (sum, value) in sums.iter_mut().zip(&self.pixels[at..at + 3]) {
                            *sum += u32::from(*value);
                        }
                        count += 1;
                    }
                }
                pixels.extend(sums.map(|sum| (sum / count.max(1)) as u8));
            }
        }
        Shot { width, height, pixels }
    }

    fn written(&self) -> Result<Vec<u8>, png::EncodingError> {
        let mut file = Vec::new();
        let mut encoder = png::Encoder::new(&mut file, self.width, self.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let mut writer = encoder.write_header()?;
        writer.write_image_data(&self.pixels)?;
        writer.finish()?;
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ppm_of(width: u32, height: u32, pixel: impl Fn(u32, u32) -> [u8; 3]) -> Vec<u8> {
        let mut file = format!("P6\n# a comment\n{width} {height}\n255\n").into_bytes();
        for y in 0..height {
            file.extend((0..width).flat_map(|x| pixel(x, y)));
        }
        file
    }

    #[test]
    fn a_picture_comes_back_as_it_was() {
        let shot = read(&ppm_of(3, 2, |x, y| [x as u8, y as u8, 200])).unwrap();
        let image = shot.fitting(100, 1 << 20).unwrap();
        assert_eq!(image.size, (3, 2));
        let again = read(&image.png).unwrap();
        assert_eq!((again.width, again.height, again.pixels), (3, 2, shot.pixels));
    }

    #[test]
    fn a_small_picture_shows_the_mean() {
        let shot = read(&ppm_of(4, 4, |x, _| if x < 2 { [0, 0, 0] } else { [200, 100, 50] })).unwrap();
        let small = read(&shot.fitting(2, 1 << 20).unwrap().png).unwrap();
        assert_eq!((small.width, small.height), (2, 2));
        assert_eq!(&small.pixels[..6], [0, 0, 0, 200, 100, 50]);
    }

    #[test]
    fn a_picture_is_made_small_enough() {
        let mut dice = 1u32;
        let noise: Vec<u8> = (0..640 * 480 * 3)
            .map(|_| {
                dice = dice.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (dice >> 24) as u8
            })
            .collect();
        let shot = Shot { width: 640, height: 480, pixels: noise };
        let image = shot.fitting(640, 50_000).unwrap();
        assert!(image.png.len() <= 50_000 && image.size.0 < 640 && image.size.0 > 100, "{:?} {}", image.size, image.png.len());
    }

    #[test]
    fn what_is_no_picture_is_refused() {
        for file in [
            &b"P6"[..],
            b"P6 1 1 255",
            b"P6 2 2 255\nabc",
            b"P6 0 0 255\n",
            b"P6 99999999999 1 255\n",
            b"GIF89a",
            b"\x89PNG\r\n\x1a\n",
            b"",
        ] {
            assert!(read(file).is_err(), "{file:?}");
        }
    }
}
