"""The places the mock provider puts addresses in: real cities, weighted roughly by how many people are online.

Coordinates are city centres in degrees (WGS 84), to two decimals; regions are the first-level divisions.
"""

from typing import NamedTuple


class City(NamedTuple):
    """A place and how often it is drawn, relative to the others."""

    weight: int
    country: str
    region: str
    city: str
    latitude: float
    longitude: float


CITIES: tuple[City, ...] = (
    City(40, "US", "New York", "New York", 40.71, -74.01),
    City(32, "US", "California", "Los Angeles", 34.05, -118.24),
    City(24, "US", "Illinois", "Chicago", 41.88, -87.63),
    City(22, "US", "Texas", "Houston", 29.76, -95.37),
    City(16, "US", "Arizona", "Phoenix", 33.45, -112.07),
    City(16, "US", "Georgia", "Atlanta", 33.75, -84.39),
    City(12, "US", "Washington", "Seattle", 47.61, -122.33),
    City(12, "US", "Florida", "Miami", 25.76, -80.19),
    City(14, "CA", "Ontario", "Toronto", 43.65, -79.38),
    City(8, "CA", "Quebec", "Montreal", 45.50, -73.57),
    City(6, "CA", "British Columbia", "Vancouver", 49.28, -123.12),
    City(18, "MX", "Ciudad de Mexico", "Mexico City", 19.43, -99.13),
    City(8, "MX", "Jalisco", "Guadalajara", 20.66, -103.35),
    City(26, "BR", "Sao Paulo", "Sao Paulo", -23.55, -46.63),
    City(12, "BR", "Rio de Janeiro", "Rio de Janeiro", -22.91, -43.17),
    City(12, "AR", "Buenos Aires", "Buenos Aires", -34.60, -58.38),
    City(8, "CL", "Santiago Metropolitan", "Santiago", -33.45, -70.67),
    City(8, "CO", "Bogota", "Bogota", 4.71, -74.07),
    City(6, "PE", "Lima", "Lima", -12.05, -77.04),
    City(30, "GB", "England", "London", 51.51, -0.13),
    City(12, "GB", "England", "Manchester", 53.48, -2.24),
    City(8, "GB", "Scotland", "Glasgow", 55.86, -4.25),
    City(6, "IE", "Leinster", "Dublin", 53.35, -6.26),
    City(22, "DE", "Berlin", "Berlin", 52.52, 13.41),
    City(14, "DE", "Bavaria", "Munich", 48.14, 11.58),
    City(12, "DE", "Hamburg", "Hamburg", 53.55, 9.99),
    City(12, "DE", "Hesse", "Frankfurt am Main", 50.11, 8.68),
    City(24, "FR", "Ile-de-France", "Paris", 48.86, 2.35),
    City(10, "FR", "Auvergne-Rhone-Alpes", "Lyon", 45.76, 4.84),
    City(16, "ES", "Madrid", "Madrid", 40.42, -3.70),
    City(12, "ES", "Catalonia", "Barcelona", 41.39, 2.17),
    City(14, "IT", "Lombardy", "Milan", 45.46, 9.19),
    City(12, "IT", "Lazio", "Rome", 41.90, 12.50),
    City(12, "NL", "North Holland", "Amsterdam", 52.37, 4.90),
    City(8, "BE", "Brussels", "Brussels", 50.85, 4.35),
    City(8, "CH", "Zurich", "Zurich", 47.38, 8.54),
    City(8, "AT", "Vienna", "Vienna", 48.21, 16.37),
    City(14, "PL", "Masovia", "Warsaw", 52.23, 21.01),
    City(8, "CZ", "Prague", "Prague", 50.08, 14.44),
    City(6, "HU", "Budapest", "Budapest", 47.50, 19.04),
    City(8, "RO", "Bucharest", "Bucharest", 44.43, 26.10),
    City(8, "PT", "Lisbon", "Lisbon", 38.72, -9.14),
    City(6, "GR", "Attica", "Athens", 37.98, 23.73),
    City(8, "SE", "Stockholm", "Stockholm", 59.33, 18.07),
    City(6, "NO", "Oslo", "Oslo", 59.91, 10.75),
    City(6, "DK", "Capital Region", "Copenhagen", 55.68, 12.57),
    City(6, "FI", "Uusimaa", "Helsinki", 60.17, 24.94),
    City(10, "UA", "Kyiv City", "Kyiv", 50.45, 30.52),
    City(18, "TR", "Istanbul", "Istanbul", 41.01, 28.98),
    City(6, "IL", "Tel Aviv", "Tel Aviv", 32.09, 34.78),
    City(10, "AE", "Dubai", "Dubai", 25.20, 55.27),
    City(10, "SA", "Riyadh", "Riyadh", 24.71, 46.68),
    City(12, "EG", "Cairo", "Cairo", 30.04, 31.24),
    City(6, "MA", "Casablanca-Settat", "Casablanca", 33.57, -7.59),
    City(16, "NG", "Lagos", "Lagos", 6.52, 3.38),
    City(8, "KE", "Nairobi", "Nairobi", -1.29, 36.82),
    City(6, "GH", "Greater Accra", "Accra", 5.60, -0.19),
    City(12, "ZA", "Gauteng", "Johannesburg", -26.20, 28.05),
    City(6, "ZA", "Western Cape", "Cape Town", -33.92, 18.42),
    City(36, "IN", "Maharashtra", "Mumbai", 19.08, 72.88),
    City(32, "IN", "Delhi", "Delhi", 28.70, 77.10),
    City(26, "IN", "Karnataka", "Bengaluru", 12.97, 77.59),
    City(16, "IN", "Tamil Nadu", "Chennai", 13.08, 80.27),
    City(10, "PK", "Sindh", "Karachi", 24.86, 67.01),
    City(10, "BD", "Dhaka", "Dhaka", 23.81, 90.41),
    City(36, "CN", "Shanghai", "Shanghai", 31.23, 121.47),
    City(34, "CN", "Beijing", "Beijing", 39.90, 116.41),
    City(20, "CN", "Guangdong", "Guangzhou", 23.13, 113.26),
    City(8, "HK", "Hong Kong", "Hong Kong", 22.32, 114.17),
    City(8, "TW", "Taipei", "Taipei", 25.03, 121.57),
    City(32, "JP", "Tokyo", "Tokyo", 35.68, 139.69),
    City(14, "JP", "Osaka", "Osaka", 34.69, 135.50),
    City(18, "KR", "Seoul", "Seoul", 37.57, 126.98),
    City(24, "ID", "Jakarta", "Jakarta", -6.21, 106.85),
    City(14, "PH", "Metro Manila", "Manila", 14.60, 120.98),
    City(14, "VN", "Ho Chi Minh City", "Ho Chi Minh City", 10.82, 106.63),
    City(12, "TH", "Bangkok", "Bangkok", 13.76, 100.50),
    City(8, "MY", "Kuala Lumpur", "Kuala Lumpur", 3.14, 101.69),
    City(8, "SG", "Singapore", "Singapore", 1.35, 103.82),
    City(12, "AU", "New South Wales", "Sydney", -33.87, 151.21),
    City(10, "AU", "Victoria", "Melbourne", -37.81, 144.96),
    City(4, "NZ", "Auckland", "Auckland", -36.85, 174.76),
)
